"""An API process for clients that can send no key.

``python -m tests.agents.keyed_api KEY [fixture | tasks] [sessions] [answers=FILE]``

It is the API as it runs, but for one header that requests without it get. With ``fixture`` the conformance suite's
tools stand in for Mayfly's, behind the same middleware; with ``sessions`` older clients get the library's. With
``tasks`` calls of the suite's tools for tasks become executions. FILE gets a line for each answer: its status, its
size, and whether it has a path of this checkout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from orchestrator.api import __main__ as process
from orchestrator.api import create_app
from orchestrator.api.middleware import Edge
from orchestrator.mcp.endpoint import eras
from orchestrator.mcp.endpoint.eras import Eras
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.settings import Settings
from tests.agents.fixture_server import make_server
from tests.agents.task_tools import make_task_server
from tests.harness import ROOT

INTERNAL = (str(ROOT).encode(), b"site-packages", b"orchestrator/")


class Keyed:
    """The API, which gets the key with each request that has none."""

    def __init__(self, edge: Edge, key: str, answers: Path | None) -> None:
        self._edge, self._header, self._answers = edge, (b"authorization", f"Bearer {key}".encode()), answers
        self.wakeups, self.floods = edge.wakeups, edge.floods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._header[0] not in dict(scope["headers"]):
            scope = {**scope, "headers": [*scope["headers"], self._header]}
        if self._answers is None or scope["type"] != "http":
            await self._edge(scope, receive, send)
            return
        status, body = 0, b""

        async def record(message: Message) -> None:
            nonlocal status, body
            status = message.get("status", status)
            body += message.get("body", b"")
            await send(message)

        await self._edge(scope, receive, record)
        line = {"status": status, "bytes": len(body), "internal": any(path in body for path in INTERNAL)}
        with self._answers.open("a") as file:
            file.write(json.dumps(line) + "\n")


def keyed(key: str, answers: Path | None, settings: Settings) -> Any:
    """The application that the process serves."""
    return Keyed(create_app(settings), key, answers)


class SessionEras(Eras):
    """Both eras, of which the older has the library's sessions: questions of a server need them."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._sessions = StreamableHTTPSessionManager(self._legacy.server, stateless=False)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with self._sessions.run(), super().run():
            yield

    async def handle(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        if Headers(scope=scope).get("mcp-protocol-version") in (None, *HANDSHAKE_PROTOCOL_VERSIONS):
            await self._sessions.handle_request(scope, receive, send)
        else:
            await super().handle(caller, scope, receive, send)


if __name__ == "__main__":
    options = sys.argv[2:]
    files = [Path(option.removeprefix("answers=")) for option in options if option.startswith("answers=")]
    if "fixture" in options:
        eras.__dict__["make_server"] = lambda parts: make_server()
    if "tasks" in options:
        eras.__dict__["make_server"] = make_task_server
    if "sessions" in options:
        eras.__dict__["Eras"] = SessionEras
    process.__dict__["create_app"] = partial(keyed, sys.argv[1], files[0] if files else None)
    process.main()
