"""The endpoint as an ASGI application, to be mounted by the API, which authenticates each request before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Receive, Scope, Send

from orchestrator.mcp import budget
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.mcp.server import make_server


class McpDoor:
    """Serves both eras of the protocol, without sessions: any API process answers any request."""

    def __init__(self, parts: Parts) -> None:
        # The API has checked Host and Origin, and has read the body within its bound.
        self._sessions = StreamableHTTPSessionManager(
            make_server(parts), stateless=True, max_request_body_size=parts.settings.mcp_body_bytes
        )

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve until the context ends."""
        await to_thread.run_sync(budget.load)
        async with self._sessions.run():
            yield

    async def handle(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of an authenticated caller."""
        scope["state"]["mcp_caller"] = caller
        await self._sessions.handle_request(scope, receive, send)
