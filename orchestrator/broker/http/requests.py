"""Arguments of a call to a request, and a request after a redirect. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx2

from orchestrator.broker.http.definitions import LONGEST_URL, MOST_HEADERS, PARAMETERS
from orchestrator.broker.http.failures import CallFailed
from orchestrator.models.hosts import PORTS, Origin, canonical

USER_AGENT = "mayfly"
ACCEPTED_CODINGS = "gzip, deflate"
LONGEST_VALUE = 8192  # bytes of a header's value
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Only the broker sets these: with them a program could smuggle a second request, or reach another host.
OWN_HEADERS = frozenset(
    (
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade"),
        *("expect", "accept-encoding", "proxy-authorization", "proxy-connection"),
    )
)
# Sent to another origin after a redirect. Any other header may be a credential.
SAFE_HEADERS = frozenset(("accept", "accept-language", "cache-control", "user-agent"))
BODY_HEADERS = frozenset(("content-type", "content-encoding", "content-language", "content-location"))
TO_GET = frozenset((301, 302, 303))
REDIRECTS = frozenset((*TO_GET, 307, 308))


@dataclass(frozen=True)
class Request:
    """One request. ``headers`` are the program's, by their names in lower case."""

    method: str
    url: httpx2.URL
    headers: Mapping[str, str]
    body: bytes | None = None

    @property
    def origin(self) -> Origin:
        """The destination of the request."""
        scheme = self.url.scheme
        return Origin(scheme, canonical(self.url.raw_host.decode("ascii")), self.url.port or PORTS[scheme])

    @property
    def target(self) -> bytes:
        """The path and query."""
        return self.url.raw_path

    @property
    def shown(self) -> str:
        """The URL without its fragment."""
        return f"{self.origin}{self.target.decode('ascii')}"

    def sent_headers(self) -> list[tuple[bytes, bytes]]:
        """All headers, in the sent form."""
        fixed = {
            "host": self.origin.authority,
            "connection": "close",
            "accept-encoding": ACCEPTED_CODINGS,
            **({} if self.body is None else {"content-length": str(len(self.body))}),
        }
        headers = {"accept": "*/*", "user-agent": USER_AGENT, **self.headers, **fixed}
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


def request(tool: str, arguments: Mapping[str, Any]) -> Request:
    """The request of a call. Raises :class:`CallFailed`."""
    if (valid := PARAMETERS.get(tool)) is None:
        raise CallFailed("tool_unknown", f"The built-in tools are {' and '.join(PARAMETERS)}; there is no {tool[:64]}.")

    def invalid(message: str) -> CallFailed:
        return CallFailed("tool_arguments_invalid", message, valid)

    if unknown := sorted(arguments.keys() - set(valid)):
        raise invalid(f"{unknown[0]} is not a parameter of {tool}.")
    url, headers = arguments.get("url"), arguments.get("headers") or {}
    if not isinstance(url, str) or len(url) > LONGEST_URL:
        raise invalid(f"url must be a string of at most {LONGEST_URL} characters.")
    if not isinstance(headers, Mapping) or not all(isinstance(value, str) for value in headers.values()):
        raise invalid("headers must be an object whose values are strings.")
    try:
        made = Request(tool.upper(), location(url), _headers(headers))
        return made if tool == "get" else _with_body(made, arguments.get("body"))
    except ValueError as error:
        raise invalid(str(error)) from error


def location(url: str, base: httpx2.URL | None = None) -> httpx2.URL:
    """A URL that can be fetched. Raises ``ValueError``."""
    try:
        parsed = base.join(url) if base else httpx2.URL(url)
        host = parsed.raw_host.decode("ascii")
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise ValueError(f"url is invalid: {error}") from error
    if parsed.scheme not in PORTS or not host:
        raise ValueError("url must be absolute, and its scheme http or https.")
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise ValueError("url has a port outside of 1 to 65535.")
    if parsed.userinfo:
        raise ValueError("url has a user name or a password; send credentials in a header.")
    if "%" in host:
        raise ValueError("url has an address with a zone, or an encoded host name.")
    return parsed


def redirected(sent: Request, status: int, target: str) -> Request:
    """The request that follows a redirect. Raises :class:`CallFailed`."""
    try:
        following = replace(sent, url=location(target, sent.url))
    except ValueError as error:
        raise CallFailed("tool_failed", f"{sent.origin} redirects to an address that cannot be fetched.") from error
    other = following.origin != sent.origin
    headers, body, method = dict(sent.headers), sent.body, sent.method
    if status in TO_GET and method == "POST":
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if name not in BODY_HEADERS}
    if other and body is not None:
        message = f"{sent.origin} redirects a POST to {following.origin}; a body is not sent to another host."
        raise CallFailed("tool_failed", message)
    if other:
        headers = {name: value for name, value in headers.items() if name in SAFE_HEADERS}
    return replace(following, method=method, body=body, headers=headers)


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    if len(given) > MOST_HEADERS:
        raise ValueError(f"headers has {len(given)} entries; at most {MOST_HEADERS} are sent.")
    headers = {}
    for name, value in given.items():
        if not NAME.fullmatch(name) or len(value) > LONGEST_VALUE or not VALUE.fullmatch(value):
            raise ValueError(f"header {name[:128]!r} is invalid, or longer than {LONGEST_VALUE} bytes.")
        if name.lower() in OWN_HEADERS:
            raise ValueError(f"header {name} cannot be set.")
        headers[name.lower()] = value.strip(" \t")
    return headers


def _with_body(made: Request, body: Any) -> Request:
    if isinstance(body, str):
        content, kind = body.encode(), "text/plain; charset=utf-8"
    elif isinstance(body, dict | list):
        content, kind = json.dumps(body, ensure_ascii=False).encode(), "application/json"
    else:
        raise ValueError("body must be a string, an object or an array.")
    return replace(made, body=content, headers={"content-type": kind, **made.headers})
