"""An API process for clients that can send no key: ``python -m tests.agents.keyed_api KEY [fixture]``.

It is the API as it runs, but for one header that requests without it get. With ``fixture`` the conformance suite's
tools stand in for Mayfly's, behind the same middleware, with sessions.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Receive, Scope, Send

from orchestrator.api import __main__ as process
from orchestrator.api import create_app
from orchestrator.api.middleware import Edge
from orchestrator.mcp import door
from orchestrator.settings import Settings
from tests.agents.fixture_server import make_server


class Keyed:
    """The API, which gets the key with each request that has none."""

    def __init__(self, edge: Edge, key: str) -> None:
        self._edge, self._header = edge, (b"authorization", f"Bearer {key}".encode())
        self.wakeups, self.floods = edge.wakeups, edge.floods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._header[0] not in dict(scope["headers"]):
            scope = {**scope, "headers": [*scope["headers"], self._header]}
        await self._edge(scope, receive, send)


def keyed(key: str, settings: Settings) -> Any:
    """What the process serves."""
    return Keyed(create_app(settings), key)


def with_sessions(server: Any, *, stateless: bool, **options: Any) -> StreamableHTTPSessionManager:
    """What the product would serve, with sessions and another server."""
    return StreamableHTTPSessionManager(make_server(), stateless=not stateless, **options)


if __name__ == "__main__":
    if sys.argv[2:] == ["fixture"]:
        door.__dict__["StreamableHTTPSessionManager"] = with_sessions
    process.__dict__["create_app"] = partial(keyed, sys.argv[1])
    process.main()
