"""HTTP to tool servers: one write for each request, connections kept, bounds, and failures of the right kind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from orchestrator.broker.links import lean_http
from orchestrator.broker.links.lean_http import LeanTransport
from tests.harness import free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
LENGTH = re.compile(rb"content-length: (\d+)")


class Server:
    """A server that answers each request with the next of some raw answers; None closes the connection."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
                )
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
                if b"connection: close" in answer or (b"length" not in answer and b"chunked" not in answer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def served(*answers: bytes | None, most: int = 4) -> AsyncIterator[tuple[httpx2.AsyncClient, Server]]:
    made = Server(*answers)
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    transport = LeanTransport(most, 5)
    async with listening, httpx2.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{made.port}") as client:
        yield client, made


def run(test: Callable[[], Awaitable[Any]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


def test_requests_share_a_connection_and_arrive_whole() -> None:
    async def test() -> None:
        async with served(OK) as (client, server):
            for _ in range(3):
                assert (await client.post("/mcp?x=1", json={"a": 1}, headers={"X-Key": "v"})).text == "ok"
            assert server.connections == 1
            assert server.requests[0].startswith(b"POST /mcp?x=1 HTTP/1.1\r\n")
            assert b"\r\nX-Key: v\r\n" in server.requests[0]
            assert server.requests[0].endswith(b'\r\n\r\n{"a":1}')

    run(test)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n3\r\n!!!\r\n0\r\n\r\n", "ok!!!"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, "ok"),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end", "until the end"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
    ],
    ids=["chunked", "continue", "until the end", "empty"],
)
def test_kinds_of_answers(answer: bytes, body: str) -> None:
    async def test() -> None:
        async with served(answer) as (client, _):
            for _ in range(2):
                found = await client.get("/")
                assert (found.status_code, found.text) == (200, body)

    run(test)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nok",
        b"no HTTP at all, but length\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: " + b"y" * 1_000_000,
    ],
    ids=["closed", "short", "short chunk", "garbage", "headers", "trailers"],
)
def test_broken_answer_fails_its_request_alone(answer: bytes | None) -> None:
    async def test() -> None:
        async with served(OK, answer, OK) as (client, server):
            assert (await client.get("/")).text == "ok"
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get("/")
            assert len(server.requests) == 2, "the request was made once"
            assert (await client.get("/")).text == "ok"

    run(test)


def test_idle_connection_that_the_server_closed_is_not_used() -> None:
    async def test() -> None:
        async with served(OK, LAST, OK) as (
            client,
            server,
        ):
            for _ in range(3):
                assert (await client.get("/")).text == "ok"
            assert server.connections == 2

    run(test)


def test_idle_connection_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_http, "IDLE_SECONDS", 0.0)

    async def test() -> None:
        async with served(OK) as (client, server):
            for _ in range(2):
                assert (await client.get("/")).text == "ok"
            assert server.connections == 2

    run(test)


def test_unasked_answer_ends_the_connection() -> None:
    async def test() -> None:
        async with served(OK + OK, OK) as (client, server):
            assert (await client.get("/")).text == "ok"
            assert (await client.get("/")).text == "ok"
            assert server.connections == 2, "the second answer belongs to no request"

    run(test)


def test_connections_are_bounded_and_requests_wait() -> None:
    async def test() -> None:
        async with served(OK, most=2) as (client, server):
            answers = await asyncio.gather(*(client.get("/") for _ in range(20)))
            assert [answer.text for answer in answers] == ["ok"] * 20
            assert server.connections <= 2

    run(test)


def test_given_up_answer_frees_its_place_and_closes_its_connection() -> None:
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n" + b"x" * 1000

    async def test() -> None:
        async with served(long, OK, most=1) as (client, server):
            async with client.stream("GET", "/") as answer:
                assert answer.status_code == 200
            assert (await client.get("/")).text == "ok"
            server.answers[:] = [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n"]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get("/"), 0.05)
            server.answers[:] = [OK]
            assert (await client.get("/")).text == "ok"

    run(test)


def test_answer_is_read_at_the_rate_of_its_consumer() -> None:
    size = 64 * 2**20

    async def test() -> None:
        sent = 0

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            while sent < size:
                writer.write(b"x" * 2**16)
                await writer.drain()
                sent += 2**16
            writer.close()

        listening = await asyncio.start_server(flood, "127.0.0.1", free_port())
        port = listening.sockets[0].getsockname()[1]
        async with (
            listening,
            httpx2.AsyncClient(transport=LeanTransport(1, 5)) as client,
            client.stream("GET", f"http://127.0.0.1:{port}/") as answer,
        ):
            before = -1
            while before != sent:  # until the server waits
                before = sent
                await asyncio.sleep(0.2)
            assert sent < size / 2
            assert sum([len(piece) async for piece in answer.aiter_raw()]) == size

    run(test)


def test_request_is_unsent_if_no_connection_is_made() -> None:
    async def test() -> None:
        async with httpx2.AsyncClient(transport=LeanTransport(1, 5)) as client:
            for url, error in {
                f"http://127.0.0.1:{free_port()}/": httpx2.ConnectError,
                "http://nothing.invalid/": httpx2.ConnectError,
            }.items():
                with pytest.raises(error):
                    await client.get(url)
            request = httpx2.Request("GET", "http://127.0.0.1:1/", headers=[(b"x", b"a\r\nb: c")])
            with pytest.raises(httpx2.LocalProtocolError):
                await client.send(request)

    run(test)
