"""Requests to an OIDC issuer: its endpoints by discovery, and tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from mayfly.connections import LOOPBACK, Connections, Server
from mayfly.errors import InvalidConfiguration
from mayfly.steps import ConnectionLost, Send
from orchestrator.cli.console import CommandFailed
from orchestrator.cli.verdict import MISTAKE

DISCOVERY = "/.well-known/openid-configuration"
SECONDS = 15.0


class Refused(Exception):
    """The issuer answered with an OAuth error; ``code`` is its name."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        super().__init__(f"{code}{': ' if detail else ''}{detail}")


class Client(NamedTuple):
    """The registration of `mayfly login` at an issuer, with the audience and the scopes that it requests."""

    issuer: str
    client_id: str
    audience: str
    scopes: str

    def form(self, **more: str) -> dict[str, str]:
        """Parameters of a request to the issuer (RFC 8707: ``resource``)."""
        named = {"client_id": self.client_id, **({"resource": self.audience} if self.audience else {})}
        return {**named, **more}


class Endpoints(NamedTuple):
    """An issuer's endpoints; ``""`` for a missing endpoint.

    ``names_itself``: whether its metadata declares that authorization answers have ``iss`` (RFC 9207).
    """

    token: str
    device: str
    authorization: str
    revocation: str = ""
    names_itself: bool = False


def discover(issuer: str) -> Endpoints:
    """The endpoints of an issuer. Raises :class:`CommandFailed`."""
    document = ask(issuer.rstrip("/") + DISCOVERY)
    if document.get("issuer") != issuer:
        raise CommandFailed(
            f"{issuer} describes itself as {document.get('issuer')!r}: give exactly this name.", MISTAKE
        )
    names = ("token", "device_authorization", "authorization", "revocation")
    token, device, authorization, revocation = (str(document.get(f"{name}_endpoint") or "") for name in names)
    names_itself = document.get("authorization_response_iss_parameter_supported") is True
    return Endpoints(token, device, authorization, revocation, names_itself)


def ask(url: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON object in the answer to a request: GET, or POST of a form.

    Raises :class:`Refused` for an OAuth error, and :class:`CommandFailed`.
    """
    found = _answer(url, form)
    if found is None:
        raise CommandFailed(f"{url} answered without a JSON object.")
    return found


def revoke(url: str, form: Mapping[str, str]) -> None:
    """Revoke a token (RFC 7009), whose answer has no meaning but its status. Raises as :func:`ask`."""
    _answer(url, form)


def _answer(url: str, form: Mapping[str, str] | None) -> dict[str, Any] | None:
    """The JSON object in an answer of status 200, if there is one. Raises as :func:`ask`."""
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise CommandFailed(f"{url} is not an https URL: passwords and tokens could be read in transit.", MISTAKE)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    body = None if form is None else urlencode(form).encode()
    try:
        connections = Connections(Server.at(url), {"User-Agent": "mayfly"})
        request = Send("GET" if body is None else "POST", "", content=body, headers=headers, timeout_seconds=SECONDS)
        with connections.request(request) as answer:
            status, content = answer.status, answer.read()
    except (ConnectionLost, InvalidConfiguration) as error:
        raise CommandFailed(f"{url} does not answer ({error}).") from error
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if isinstance(found, dict) and isinstance(found.get("error"), str):
        raise Refused(found["error"], str(found.get("error_description") or ""))
    if status != 200:
        raise CommandFailed(f"{url} answered {status}.")
    return found if isinstance(found, dict) else None
