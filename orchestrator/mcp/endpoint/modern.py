"""Self-contained requests (protocol version 2026-07-28 and later).

The library checks the form of requests, and chooses code and status of refusals.
"""

from __future__ import annotations

from typing import Any

import anyio
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    InboundModernRoute,
    classify_inbound_request,
    find_duplicated_routing_header,
    unsupported_protocol_version_rejection,
    validate_mcp_param_headers,
)
from mcp_types import HEADER_MISMATCH, INVALID_REQUEST, ErrorData, JSONRPCNotification, JSONRPCRequest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.mcp.endpoint.answering import Answer, answer_to, found_by, parsed, refusal, unacceptable, watch

VERSION = "mcp-protocol-version"
Members = dict[str, Any]


class ModernEndpoint:
    """Answers self-contained requests with the handlers of one server."""

    def __init__(self, server: Server[Any]) -> None:
        self._server = server

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST."""
        request = Request(scope, receive)
        found = unacceptable(request) or parsed(await request.body())
        if isinstance(found, Response):
            await found(scope, receive, send)
            return
        message, members = found
        if isinstance(message, JSONRPCRequest):
            await self._answered(request, message, members, send)
            return
        response = Response(status_code=202)  # notifications of clients have no effect in this era
        if not isinstance(message, JSONRPCNotification):
            response = refusal(400, INVALID_REQUEST, "The body must be a JSON-RPC request or notification.")
        elif wrong := unsupported_protocol_version_rejection(request.headers.get(VERSION, "")):
            response = refusal(ERROR_CODE_HTTP_STATUS[wrong.code], wrong.code, wrong.message)
        await response(scope, receive, send)

    async def _answered(self, request: Request, message: JSONRPCRequest, members: Members, send: Send) -> None:
        answer = answer_to(message, send)
        route = self._routed(request, message, members)
        if isinstance(route, InboundLadderRejection):
            await _ended(answer, ErrorData(code=route.code, message=route.message, data=route.data))
            return
        connection = Connection.from_envelope(route.protocol_version, route.client_info, route.client_capabilities)
        async with anyio.create_task_group() as group:
            group.start_soon(watch, request.receive, answer, group.cancel_scope)
            await _ended(answer, await found_by(self._server, connection, request, message, answer))
            group.cancel_scope.cancel()

    def _routed(
        self, request: Request, message: JSONRPCRequest, members: Members
    ) -> InboundModernRoute | InboundLadderRejection:
        """The request's envelope, if headers and body agree; else a refusal."""
        headers = request.headers
        if (name := find_duplicated_routing_header(headers.items())) is not None:
            return InboundLadderRejection(code=HEADER_MISMATCH, message=f"{name} header appears more than once")
        route = classify_inbound_request(members, headers=dict(headers))
        if isinstance(route, InboundModernRoute) and message.method == "tools/call":
            return self._mismatched(request, message.params or {}) or route
        return route

    def _mismatched(self, request: Request, params: Members) -> InboundLadderRejection | None:
        """A refusal of a call whose arguments differ from the headers that its tool declares."""
        name, arguments = params.get("name"), params.get("arguments") or {}
        find = self._server.get_tool_input_schema
        schema = find(name) if find is not None and isinstance(name, str) else None
        if schema is None or not isinstance(arguments, dict):
            return None
        return validate_mcp_param_headers(schema, arguments, request.headers)


async def _ended(answer: Answer, found: Members | ErrorData) -> None:
    status = ERROR_CODE_HTTP_STATUS.get(found.code, 200) if isinstance(found, ErrorData) else 200
    await answer.end(found, status)
