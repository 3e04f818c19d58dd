"""The route of agents: the Model Context Protocol over streamable HTTP.

Host, Origin, key, scope, rate and size of a request are checked before the MCP library receives the request. The body
is read here, so that the bounds of bytes and time apply to it as to other bodies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from orchestrator.api.bodies import SMALL_BYTES, refuse_encoded
from orchestrator.api.dependencies import Parts, parts_of, principal, recheck
from orchestrator.errors import HostRefused, NotFound, OriginRefused, PayloadTooLarge, Unauthenticated
from orchestrator.identity import Principal
from orchestrator.mcp.budget import Carrier
from orchestrator.mcp.door import McpDoor
from orchestrator.mcp.parts import Caller
from orchestrator.models.fleet import MCP

PATH = "/mcp"
METADATA = "/.well-known/oauth-protected-resource"  # RFC 9728
LOGIN_FIELDS = {"issuer", "client_id", "audience"}  # for `mayfly login`, beyond the RFC
AGENT_SCOPES = ("mcp", "executions:read", "executions:write")
router = APIRouter()
# Clients that pass ``structuredContent`` to their model, and clients that pass ``content``.
CARRIERS: tuple[tuple[re.Pattern[str], Carrier], ...] = (
    (re.compile(r"claude-code/", re.IGNORECASE), "structured"),
    (re.compile(r"gemini|cursor|codex|opencode|windsurf|zed/", re.IGNORECASE), "text"),
)


class Protocol(Response):
    """An answer that the MCP library writes."""

    def __init__(self, door: McpDoor, parts: Parts, caller: Caller, body: bytes) -> None:
        super().__init__()
        self._door, self._parts, self._caller, self._request_body = door, parts, caller, body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        unread = [self._request_body]

        async def replay() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            return await receive()

        # RFC 9110, 5.5: spaces around a header's value are no part of it; the HTTP parser keeps trailing spaces.
        plain = {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}
        size = len(self._request_body)
        try:
            with (
                self._parts.mcp_calls.counted(self._caller.tenant),
                self._parts.mcp_bytes.counted(self._caller.tenant, size) if size > SMALL_BYTES else nullcontext(),
            ):
                await self._door.handle(self._caller, plain, replay, send)
        finally:
            self._caller.afterwards.begin()


def check_names(request: Request) -> None:
    """Raise :class:`HostRefused` or :class:`OriginRefused`: a page of another site must not reach this endpoint."""
    settings = parts_of(request).service.settings
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if not is_listed(host, settings.mcp_hosts):
        raise HostRefused(f"Host {host[:200]!r} is not served at {PATH}; the operator lists names in MAYFLY_MCP_HOSTS.")
    if origin is not None and not is_listed(origin, settings.mcp_origins):
        raise OriginRefused(
            f"Origin {origin[:200]!r} is not served at {PATH}; the operator lists origins in MAYFLY_MCP_ORIGINS."
        )


def is_listed(value: str, patterns: Sequence[str]) -> bool:
    """Whether a host or origin is in a list; ``name:*`` stands for the name with any port, or without."""
    for pattern in patterns:
        name = pattern.removesuffix(":*")
        if value == pattern or (name != pattern and re.fullmatch(re.escape(name) + r"(:\d{1,5})?", value)):
            return True
    return False


@router.api_route(PATH, methods=["POST", "GET", "DELETE"], include_in_schema=False)
async def mcp(request: Request) -> Response:
    """Handle a message of the Model Context Protocol. There are no sessions: GET and DELETE are answered with 405."""
    parts = parts_of(request)
    check_names(request)
    try:
        caller = await principal(request, parts)
    except Unauthenticated:
        if await run_in_threadpool(parts.issuer_cases.exist):
            request.state.challenge = f'Bearer resource_metadata="{origin_of(request)}{METADATA}{PATH}"'
        raise
    if parts.mcp is None:
        raise NotFound("Agents are not served here (MAYFLY_MCP_ENABLED).")
    await parts.switches.check(MCP)
    if request.method != "POST":
        return Response(status_code=405, headers={"Allow": "POST"})
    body = await read(request, parts, caller)
    again = partial(recheck, parts, caller, request.headers.get("authorization"))
    filtered = parts.service.settings.mcp_filtered
    filters = any(name in filtered for name in ("*", caller.tenant, f"{caller.tenant}/{caller.name}"))
    found = Caller(caller, again, carrier(request), filters)
    return Protocol(parts.mcp, parts, found, body)


@router.get(METADATA, include_in_schema=False)
@router.get(METADATA + PATH, include_in_schema=False)
async def metadata(request: Request) -> JSONResponse:
    """The metadata of the protected resource (RFC 9728): the issuers whose access tokens agents may send.

    No key is needed. Raises :class:`HostRefused`, and :class:`NotFound` without issuers.
    """
    check_names(request)  # the answer has the address that the request names
    issuers = await run_in_threadpool(parts_of(request).issuer_cases.all)
    if not issuers:
        raise NotFound("No issuer of access tokens is configured: agents authenticate with API keys.")
    found = {
        "resource": origin_of(request) + PATH,
        "resource_name": "Mayfly",
        "authorization_servers": [issuer.issuer for issuer in issuers],
        "bearer_methods_supported": ["header"],
        "scopes_supported": AGENT_SCOPES,
        "mayfly_logins": [issuer.model_dump(include=LOGIN_FIELDS) for issuer in issuers if issuer.client_id],
    }
    return JSONResponse(found, headers={"Cache-Control": "max-age=300"})


def origin_of(request: Request) -> str:
    """The origin that a request names, such as ``https://mayfly.example``."""
    return f"{request.url.scheme}://{request.headers.get('host', '')}"


async def read(request: Request, parts: Parts, caller: Principal) -> bytes:
    """Read the body. Raises :class:`PayloadTooLarge` and :class:`UnsupportedContentEncoding`."""
    refuse_encoded(request)
    most = parts.service.settings.mcp_body_bytes
    message = f"A request to {PATH} has at most {most} bytes. Send large inputs with PUT /api/v1/blobs first."
    if int(request.headers.get("content-length", "0")) > most:
        raise PayloadTooLarge(message)
    try:
        return await parts.traffic.chunk(request, caller.tenant, most)
    except PayloadTooLarge as error:
        raise PayloadTooLarge(message) from error


def carrier(request: Request) -> Carrier:
    """The part of a result that this client gives to its model."""
    agent: Any = request.headers.get("user-agent", "")
    return next((found for pattern, found in CARRIERS if pattern.search(agent)), "both")
