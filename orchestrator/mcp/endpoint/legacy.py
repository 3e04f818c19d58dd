"""Requests after ``initialize`` (protocol versions to 2025-11-25), each independent of the others.

A session is a name that ``initialize`` gives to the client. Session and request id name the call, so that
``notifications/cancelled`` finds the call's execution (:mod:`orchestrator.service.agent_calls`). A session has no other
effect, and clients without a session are served in the same way.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.shared.jsonrpc_dispatcher import cancelled_request_id_from_params
from mcp_types import DEFAULT_NEGOTIATED_VERSION, JSONRPCNotification, JSONRPCRequest, RequestId
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.mcp.arguments import is_short
from orchestrator.mcp.endpoint.answering import answer_to, found_by, parsed, unacceptable, watch
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.service.agent_calls import call_of

SESSION = "mcp-session-id"
CANCELLED = "notifications/cancelled"
MOST_SESSION = 256  # characters


class LegacyEndpoint:
    """Answers requests of older clients with the handlers of one server."""

    def __init__(self, server: Server[Any], parts: Parts) -> None:
        self.server, self._parts = server, parts

    async def handle(self, version: str | None, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST; ``version`` is from its header."""
        request = Request(scope, receive)
        found = unacceptable(request) or parsed(await request.body())
        if isinstance(found, Response):
            await found(scope, receive, send)
            return
        message, _ = found
        if isinstance(message, JSONRPCRequest):
            scope["state"]["mcp_caller"] = replace(caller, call=_call(request, message.id))
            await self._answered(version or DEFAULT_NEGOTIATED_VERSION, request, message, send)
            return
        if isinstance(message, JSONRPCNotification):
            await self._noted(request, caller, message)
        await Response(status_code=202)(scope, receive, send)  # also for answers: the server sends no requests

    async def _noted(self, request: Request, caller: Caller, message: JSONRPCNotification) -> None:
        """Cancel a call; other notifications have no effect."""
        id = cancelled_request_id_from_params(message.params) if message.method == CANCELLED else None
        if id is not None and is_short(id) and (call := _call(request, id)) is not None:
            cancel = partial(self._parts.agent_calls.cancel, caller.principal, call)
            await self._parts.threads.run(caller.tenant, cancel)

    async def _answered(self, version: str, request: Request, message: JSONRPCRequest, send: Send) -> None:
        """Answer a request. In this era the HTTP status of an error is 200."""
        connection = Connection.from_envelope(version, None, None)
        answer = answer_to(message, send)
        async with anyio.create_task_group() as group:
            group.start_soon(watch, request.receive, answer, group.cancel_scope)
            found = await found_by(self.server, connection, request, message, answer)
            has_session = message.method == "initialize" and isinstance(found, dict)
            await answer.end(found, headers={SESSION: secrets.token_hex(16)} if has_session else None)
            group.cancel_scope.cancel()


def _call(request: Request, id: RequestId) -> str | None:
    """The name of a request's call; ``None`` for a client without a session."""
    session = request.headers.get(SESSION)
    return None if not session or len(session) > MOST_SESSION else call_of(session, id)
