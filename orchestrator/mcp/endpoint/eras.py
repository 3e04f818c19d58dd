"""Both eras of the protocol, served with one server. Importing this module loads the protocol's library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from orchestrator.mcp import budget
from orchestrator.mcp.endpoint.legacy import LegacyEndpoint
from orchestrator.mcp.endpoint.modern import VERSION, ModernEndpoint
from orchestrator.mcp.outputs.outlines import OUTLINES
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.mcp.server import make_server


class Eras:
    """Serves both eras, without sessions: any API process answers any request. The constructor loads the tokenizer.

    The API has checked Host and Origin, and has read the body within its bound.
    """

    def __init__(self, parts: Parts) -> None:
        budget.load()
        server = make_server(parts)
        self._legacy, self._modern = LegacyEndpoint(server, parts), ModernEndpoint(server)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve until the context ends."""
        try:
            yield
        finally:
            await to_thread.run_sync(OUTLINES.stop)

    async def handle(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of an authenticated caller."""
        scope["state"]["mcp_caller"] = caller
        version = Headers(scope=scope).get(VERSION)
        if version is None or version in HANDSHAKE_PROTOCOL_VERSIONS:
            await self._legacy.handle(version, caller, scope, receive, send)
        else:
            await self._modern.handle(scope, receive, send)
