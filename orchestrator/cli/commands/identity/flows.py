"""Log-ins at an OIDC issuer without a password of ours: by device code, and in a browser of this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
import webbrowser
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import typer

from orchestrator.cli.console import CommandFailed
from orchestrator.cli.oauth import Client, Endpoints, Refused, ask
from orchestrator.cli.verdict import MISTAKE
from orchestrator.logs import printable

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SLOWER_SECONDS = 5.0  # RFC 8628, 3.5
BROWSER_SECONDS = 300.0
PAGE = "<!doctype html><title>Mayfly</title><p>{}</p><p>This page can be closed.</p>"


def by_code(client: Client, endpoints: Endpoints) -> Mapping[str, Any]:
    """Tokens after the user typed a code in any browser (RFC 8628). Raises :class:`Refused`, :class:`CommandFailed`."""
    if not endpoints.device:
        raise CommandFailed(f"{client.issuer} has no log-in by code; try --browser.", MISTAKE)
    begun = ask(endpoints.device, client.form(scope=client.scopes))
    try:
        place = str(begun.get("verification_uri_complete") or begun["verification_uri"])
        user_code, device_code = str(begun["user_code"]), str(begun["device_code"])
        pause, seconds = max(1.0, float(begun.get("interval") or 5)), float(begun.get("expires_in") or 600)
    except (KeyError, TypeError, ValueError) as error:
        raise CommandFailed(f"{client.issuer} gave no usable code.") from error
    typer.echo(printable(f"Open {place} and confirm the code {user_code}."), err=True)
    deadline = time.monotonic() + seconds
    form = client.form(grant_type=DEVICE_GRANT, device_code=device_code)
    while time.monotonic() < deadline:
        time.sleep(pause)
        try:
            return ask(endpoints.token, form)
        except Refused as error:
            if error.code not in ("authorization_pending", "slow_down"):
                raise
            pause += SLOWER_SECONDS if error.code == "slow_down" else 0
    raise CommandFailed("The code was not confirmed in time.")


def by_browser(client: Client, endpoints: Endpoints) -> Mapping[str, Any]:
    """Tokens after the issuer sent the user's browser back to a port of this machine, with PKCE (RFC 8252, RFC 7636).

    Raises :class:`Refused` and :class:`CommandFailed`.
    """
    if not endpoints.authorization:
        raise CommandFailed(f"{client.issuer} has no log-in in a browser.", MISTAKE)
    verifier, state = secrets.token_urlsafe(64), secrets.token_urlsafe(32)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    with _Listener(("127.0.0.1", 0), _Handler) as listener:
        back = f"http://127.0.0.1:{listener.server_port}/callback"
        asked = client.form(
            response_type="code", redirect_uri=back, scope=client.scopes, state=state, code_challenge=challenge,
            code_challenge_method="S256", prompt="consent",
        )  # fmt: skip
        place = f"{endpoints.authorization}?{urlencode(asked)}"
        typer.echo(f"If no browser opens, open {place}", err=True)
        webbrowser.open(place)
        answer = listener.wait(state)
    if answer.get("iss", "" if endpoints.names_itself else client.issuer) != client.issuer:  # RFC 9207
        raise CommandFailed("The answer is another issuer's; it was dropped.")
    if "code" not in answer:
        raise Refused(answer.get("error", "no_code"), answer.get("error_description", ""))
    form = client.form(grant_type="authorization_code", code=answer["code"], redirect_uri=back, code_verifier=verifier)
    return ask(endpoints.token, form)


class _Listener(HTTPServer):
    """Receives the single request with which the browser returns; ``answer`` has its parameters."""

    timeout = 1.0
    state = ""
    answer: dict[str, str] | None = None

    def wait(self, state: str) -> dict[str, str]:
        """The parameters of the request with that state. Raises :class:`CommandFailed` after the time-out."""
        self.state, deadline = state, time.monotonic() + BROWSER_SECONDS
        while self.answer is None:
            if time.monotonic() > deadline:
                raise CommandFailed("The browser did not return in time.")
            self.handle_request()
        return self.answer


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    timeout = 5.0

    def do_GET(self) -> None:
        """Answer the browser. A request without the state comes from another page, and changes nothing."""
        parts = urlsplit(self.path)
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        ours = parts.path == "/callback" and hmac.compare_digest(
            given.get("state", "").encode(), self.server.state.encode()
        )
        if ours:
            self.server.answer = given
        text = PAGE.format(
            "Mayfly has the answer." if ours else "This is not an answer to a log-in of Mayfly."
        ).encode()
        self.send_response(200 if ours else 400)
        for name, value in (("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(text)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing, since the address has the code."""
