"""The end of a session, while the server still answers a request that the end gave up.

The library then sends the answer to a closed stream, and its error stands in the place of what ended the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.client.streamable_http import streamable_http_client

from orchestrator.broker.links.link import LinkFailed
from orchestrator.broker.links.mcp_link import McpLink, opened
from tests.builders.tools.hostile_server import HostileServer


@pytest.fixture
def server() -> Iterator[HostileServer]:
    server = HostileServer()
    yield server
    server.stop()


@asynccontextmanager
async def session(server: HostileServer, error: type[Exception]) -> AsyncIterator[McpLink]:
    """A session that ends with an error of the transport."""

    async def fail() -> None:
        raise error

    @asynccontextmanager
    async def transport() -> AsyncIterator[Any]:
        async with streamable_http_client(server.url) as streams, anyio.create_task_group() as tasks:
            try:
                yield streams
            finally:
                tasks.start_soon(fail)

    async with opened(transport(), "s", 60, 65536, lambda: None) as link:
        yield link


def test_late_answer_is_no_failure_of_a_session_that_has_ended(server: HostileServer) -> None:
    async def listed() -> int:
        async with session(server, anyio.BrokenResourceError) as link:
            return len(await link.list_tools())

    assert asyncio.run(listed()) > 0


def test_other_error_at_the_end_is_a_failure(server: HostileServer) -> None:
    async def listed() -> int:
        async with session(server, OSError) as link:
            return len(await link.list_tools())

    with pytest.raises(LinkFailed, match="OSError"):
        asyncio.run(listed())


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
