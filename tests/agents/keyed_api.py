"""An API process for clients that can send no key: ``python -m tests.agents.keyed_api KEY [fixture] [answers=FILE]``.

It is the API as it runs, but for one header that requests without it get. With ``fixture`` the conformance suite's
tools stand in for Mayfly's, behind the same middleware, with sessions. FILE gets a line for each answer: its status,
its size, and whether it has a path of this checkout.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Message, Receive, Scope, Send

from orchestrator.api import __main__ as process
from orchestrator.api import create_app
from orchestrator.api.middleware import Edge
from orchestrator.mcp import door
from orchestrator.settings import Settings
from tests.agents.fixture_server import make_server
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
    """What the process serves."""
    return Keyed(create_app(settings), key, answers)


def with_sessions(server: Any, *, stateless: bool, **options: Any) -> StreamableHTTPSessionManager:
    """What the product would serve, with sessions and another server."""
    return StreamableHTTPSessionManager(make_server(), stateless=not stateless, **options)


if __name__ == "__main__":
    options = sys.argv[2:]
    files = [Path(option.removeprefix("answers=")) for option in options if option.startswith("answers=")]
    if "fixture" in options:
        door.__dict__["StreamableHTTPSessionManager"] = with_sessions
    process.__dict__["create_app"] = partial(keyed, sys.argv[1], files[0] if files else None)
    process.main()
