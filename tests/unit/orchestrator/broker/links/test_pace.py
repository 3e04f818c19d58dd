"""A tool server that sends without end, unasked, waits: the broker's event loop serves all servers."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import httpx2
import pytest

from orchestrator.broker.links import bounded_http, bounded_stdio
from orchestrator.broker.links.bounded_http import BoundedTransport
from orchestrator.broker.links.bounded_stdio import Command, LastWords
from orchestrator.broker.links.bounds import EXCHANGE, LONG_MESSAGE, Exchange, Pace

PIECES, MOST, SECONDS = 50, 10, 0.05
LEAST_SECONDS = (PIECES // MOST - 1) * SECONDS
FLOOD = f"""
for _ in range({PIECES}): print('{{"jsonrpc": "2.0", "method": "notifications/message"}}', flush=True)
import sys
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def slower(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bounded_http, bounded_stdio):
        monkeypatch.setattr(module, "Pace", lambda most: Pace(MOST, SECONDS))


def test_messages_of_a_pipe_are_read_at_the_pace() -> None:
    async def test() -> None:
        command = Command((sys.executable, "-I", "-c", FLOOD), {})
        began = time.monotonic()
        async with bounded_stdio.bounded_stdio(command, 2**20, LastWords(), lambda: None) as (received, _):
            for _ in range(PIECES):
                await received.receive()
        assert time.monotonic() - began >= LEAST_SECONDS

    asyncio.run(test())


LONG_LINES = 5
LONG = """
for _ in range(%d): print('{"jsonrpc": "2.0", %s, "%s": {"x": "' + "x" * %d + '"}}', flush=True)
import sys
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("fields", "content"), [('"id": 1', "result"), ('"method": "notifications/message"', "params")]
)
def test_long_messages_of_a_pipe_are_followed_by_a_rest(
    monkeypatch: pytest.MonkeyPatch, fields: str, content: str
) -> None:
    rests: list[float] = []

    class Noted(Pace):
        def rest(self, seconds: float) -> None:
            rests.append(seconds + 0.05)  # as if the message were longer
            super().rest(rests[-1])

    monkeypatch.setattr(bounded_stdio, "Pace", lambda most: Noted(most))
    monkeypatch.setattr(bounded_stdio, "UNASKED_BYTES", 20 * LONG_MESSAGE)

    async def test() -> None:
        command = Command((sys.executable, "-I", "-c", LONG % (LONG_LINES, fields, content, LONG_MESSAGE)), {})
        async with bounded_stdio.bounded_stdio(command, 2**20, LastWords(), lambda: None) as (received, _):
            await received.receive()
            begun, began = len(rests), time.monotonic()
            for _ in range(LONG_LINES - 1):
                await received.receive()
            took = time.monotonic() - began
        reasons = len(rests) // LONG_LINES
        assert sum(rests[max(begun, reasons) : -reasons]) <= took

    asyncio.run(test())
    assert len(rests) == LONG_LINES * (2 if content == "params" else 1)
    assert all(rest > 0.05 for rest in rests)
    if content == "params":
        assert min(rests[1::2]) >= 0.1, "an unasked message waits for its bytes"


class Endless(httpx2.AsyncBaseTransport, httpx2.AsyncByteStream):
    """Answers with an event stream."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            yield b":"

    async def aclose(self) -> None:
        pass


def test_stream_of_the_connection_itself_is_read_at_the_pace() -> None:
    async def test() -> None:
        EXCHANGE.set(Exchange(ends=False))
        began = time.monotonic()
        async with httpx2.AsyncClient(transport=BoundedTransport(Endless())) as client:
            assert (await client.get("http://s/")).content == b":" * PIECES
        assert time.monotonic() - began >= LEAST_SECONDS

    asyncio.run(test())


class Page(Endless):
    """Answers with JSON at ``/json``, else with an event stream."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        kind = "application/json" if request.url.path == "/json" else "text/event-stream"
        return httpx2.Response(200, headers={"content-type": kind}, stream=self)


@pytest.mark.parametrize("path", ["json", "events"])
def test_pages_of_a_list_have_one_bound_together_and_no_pace(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async def refuse(self: Pace, count: int = 1) -> None:
        raise AssertionError("the answer is paced")

    monkeypatch.setattr(Pace, "keep", refuse)

    async def test() -> None:
        EXCHANGE.set(exchange := Exchange(2 * PIECES))
        async with httpx2.AsyncClient(transport=BoundedTransport(Page())) as client:
            for _ in range(2):
                assert (await client.get(f"http://s/{path}")).content == b":" * PIECES
            assert not exchange.too_large
            with pytest.raises(httpx2.StreamError):
                await client.get(f"http://s/{path}")
        assert exchange.too_large

    asyncio.run(test())


def test_stream_that_stays_open_counts_for_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "Pace", lambda most: Pace(2 * PIECES))

    async def test() -> None:
        EXCHANGE.set(exchange := Exchange(PIECES, ends=False))
        async with httpx2.AsyncClient(transport=BoundedTransport(Page())) as client:
            assert (await client.get("http://s/events")).content == b":" * PIECES
            assert (await client.get("http://s/json")).content == b":" * PIECES
            assert not exchange.too_large

    asyncio.run(test())
