"""The end of a session, while the server still answers a request that the end gave up.

The library then sends the answer to a closed stream, and its error stands in the place of what ended the session.
A session of the earlier era ends with a request, during which the other end of the stream is closed, too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.client.streamable_http import streamable_http_client

from orchestrator.broker.links.link import LinkFailed
from orchestrator.broker.links.mcp_link import McpLink, opened
from orchestrator.models.tools import Tool
from tests.builders.tools.hostile_server import HostileServer
from tests.builders.tools.upstreams import Asked, Write, answer, upstream


@pytest.fixture
def server() -> Iterator[HostileServer]:
    server = HostileServer()
    yield server
    server.stop()


@asynccontextmanager
async def session(server: HostileServer, *errors: type[Exception]) -> AsyncIterator[McpLink]:
    """A session that ends with errors of the transport."""

    async def fail(error: type[Exception]) -> None:
        raise error

    @asynccontextmanager
    async def transport() -> AsyncIterator[Any]:
        async with streamable_http_client(server.url) as streams, anyio.create_task_group() as tasks:
            try:
                yield streams
            finally:
                for error in errors:
                    tasks.start_soon(fail, error)

    async with opened(transport(), "s", 60, 65536, lambda: None) as link:
        yield link


class EarlierServer:
    """A server of the earlier era: it answers an open call when the client ends the session."""

    def __init__(self) -> None:
        self.called, self.ending, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def script(self, asked: Asked, write: Write) -> None:
        request = json.loads(asked.body or b"{}")
        method = request.get("method")
        if asked.method == "DELETE":
            self.ending.set()
            await self.over.wait()
        elif method == "initialize":
            about = {"protocolVersion": "2025-06-18", "serverInfo": {"name": "s", "version": "1"}}
            await write(_json(request, **about, capabilities={"tools": {}}))
        elif method == "tools/call":
            self.called.set()
            await self.ending.wait()
            await write(_json(request, content=[]))
        else:
            await write(answer(status=202 if method else 405, connection="close"))


def _json(request: dict[str, Any], **result: Any) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
    return answer(body, content_type="application/json", connection="close", mcp_session_id="1")


def test_late_answer_is_no_failure_of_a_session_that_has_ended(server: HostileServer) -> None:
    async def listed() -> int:
        async with session(server, anyio.BrokenResourceError) as link:
            return len(await link.list_tools())

    assert asyncio.run(listed()) > 0


@pytest.mark.parametrize("errors", [(OSError,), (anyio.BrokenResourceError, OSError)], ids=["alone", "and an answer"])
def test_other_error_at_the_end_is_a_failure(server: HostileServer, errors: tuple[type[Exception], ...]) -> None:
    async def listed() -> int:
        async with session(server, *errors) as link:
            return len(await link.list_tools())

    with pytest.raises(LinkFailed, match="OSError"):
        asyncio.run(listed())


def test_session_that_failed_by_such_an_error_itself_is_a_failure(server: HostileServer) -> None:
    async def used() -> None:
        async with session(server, anyio.BrokenResourceError):
            raise anyio.BrokenResourceError

    with pytest.raises(LinkFailed, match="BrokenResourceError"):
        asyncio.run(used())


def test_late_answer_does_not_hide_a_cancellation(server: HostileServer) -> None:
    async def cancelled() -> bool:
        connected = asyncio.Event()

        async def follow() -> None:
            async with session(server, anyio.BrokenResourceError):
                connected.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(follow())
        await connected.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(cancelled())


def test_answer_to_a_call_during_the_last_request_does_not_hide_a_cancellation() -> None:
    async def cancelled() -> bool:
        earlier, waiting = EarlierServer(), asyncio.Event()

        async def follow(url: str) -> None:
            async with opened(streamable_http_client(url), "s", 60, 65536, lambda: None) as link:
                tool = Tool(server="s", name="t", input_schema={})
                call = asyncio.create_task(link.call(tool, {}, 60))
                await earlier.called.wait()
                call.cancel()
                waiting.set()
                await asyncio.Event().wait()

        async with upstream(earlier.script, ["127.0.0.1"]) as server:
            task = asyncio.create_task(follow(server.url("127.0.0.1")))
            await waiting.wait()
            task.cancel()
            await asyncio.wait([task])
            earlier.over.set()
        return task.cancelled()

    assert asyncio.run(cancelled())
