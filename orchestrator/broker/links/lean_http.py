"""HTTP/1.1 to one tool server, over connections that stay open, with as little work for each request as possible.

The library's own transport takes more CPU time for a request than all other work of the broker for a call. Here
a request is one write, ``httptools`` parses the answer, and an idle connection costs nothing. The module implements
only the part of HTTP that MCP needs: no proxies, no HTTP/2, no compression. Answers are read as fast as consumed.

A request is written once. Before each request, an idle connection that the server has closed is detected. If a
connection ends after a request was written, the request fails, since the server may have received it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import cast

import httptools
import httpx2

IDLE_SECONDS = 3.0  # many servers close after 5 s: a request that meets the closing has an unknown outcome
MOST_BUFFERED = 256 * 1024  # bytes of an answer that are not read yet
MOST_HEADERS = 64 * 1024  # bytes; also of trailers, and of framing between two pieces of the body
FORBIDDEN = (b"\r", b"\n", b"\0")


class LeanTransport(httpx2.AsyncBaseTransport):
    """Connections to the origin of the requests; at most ``most_connections`` at a time, further requests wait."""

    def __init__(self, most_connections: int, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._places = asyncio.Semaphore(most_connections)
        self._idle: dict[tuple[str, str, int], list[_Connection]] = {}
        self._tls: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Raises the library's ``TransportError``: ``ConnectError`` only if nothing was sent."""
        body = await request.aread()
        head = _head(request)
        await self._places.acquire()
        try:
            connection = await self._connection(request.url)
            try:
                status, headers = await connection.exchange(head + body)
            except BaseException:
                connection.abort()
                raise
        except BaseException:
            self._places.release()
            raise
        return httpx2.Response(status, headers=headers, stream=_Body(connection, self), request=request)

    async def _connection(self, url: httpx2.URL) -> _Connection:
        secure = url.scheme == "https"
        origin = url.scheme, url.host, url.port or (443 if secure else 80)
        idle = self._idle.setdefault(origin, [])
        while idle:
            connection = idle.pop()
            if connection.is_usable():
                return connection
            connection.abort()
        if secure and self._tls is None:
            self._tls = ssl.create_default_context()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, made = await loop.create_connection(
                    lambda: _Connection(idle), origin[1], origin[2], ssl=self._tls if secure else None
                )
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"no connection within {self._connect_seconds:g} s") from error
        except (OSError, ssl.SSLError) as error:
            raise httpx2.ConnectError(_reason(error)) from error
        return made

    def release(self) -> None:
        """Free the connection of an answer that was read or abandoned."""
        self._places.release()

    async def aclose(self) -> None:
        for idle in self._idle.values():
            while idle:
                idle.pop().abort()


def _reason(error: OSError) -> str:
    """The cause of a failed connection. Errors of names and of TLS have separate numbers, others the system's."""
    if isinstance(error, socket.gaierror | ssl.SSLError) or error.errno is None:
        return str(error.strerror or error)
    return os.strerror(error.errno)


def _head(request: httpx2.Request) -> bytes:
    lines = [request.method.encode() + b" " + request.url.raw_path + b" HTTP/1.1"]
    for name, value in request.headers.raw:
        if any(character in name or character in value for character in FORBIDDEN):
            raise httpx2.LocalProtocolError("a header has a line break")
        lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])


class _Connection(asyncio.Protocol):
    """One connection, with at most one request at a time."""

    def __init__(self, idle: list[_Connection]) -> None:
        self._idle = idle
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._answered: asyncio.Future[tuple[int, list[tuple[bytes, bytes]]]] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._more = asyncio.Event()
        self._complete = self._keeps = False
        self._error: Exception | None = None
        self._since = 0.0

    # The caller's side.

    def is_usable(self) -> bool:
        """Whether an idle connection can take a request."""
        fresh = time.monotonic() - self._since < IDLE_SECONDS
        return fresh and self._error is None and self._transport is not None and not self._transport.is_closing()

    async def exchange(self, data: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Write a request; the status and the headers of its answer."""
        assert self._transport is not None  # noqa: S101 - it is connected
        self._parser = httptools.HttpResponseParser(self)
        self._headers, self._header_bytes, self._complete, self._keeps = [], 0, False, False
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._answered

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body of the answer."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._buffered -= len(piece)
                if self._buffered <= MOST_BUFFERED and self._transport is not None:
                    self._transport.resume_reading()
                yield piece
            if self._complete:
                return
            if self._error is not None:
                raise self._error
            self._more.clear()
            await self._more.wait()

    def finish(self) -> None:
        """Keep the connection for the next request, unless the answer was not read to its end."""
        if self._complete and self._keeps and not self._pieces and self._error is None:
            self._since = time.monotonic()
            self._parser = None
            self._idle.append(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        with suppress(ValueError):
            self._idle.remove(self)
        if self._transport is not None:
            self._transport.abort()

    # The event loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._complete:
            self.abort()  # no request is open
            return
        self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(httpx2.RemoteProtocolError(f"the answer is not HTTP: {error}"))
        if self._header_bytes > MOST_HEADERS and not self._complete:
            self._fail(httpx2.RemoteProtocolError("the headers of the answer are too large"))
        if self._buffered > MOST_BUFFERED and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._parser is not None and not self._complete and not self._ends_with_the_connection():
            self._fail(httpx2.RemoteProtocolError("the server closed the connection before its answer was complete"))
        self.abort()

    def _ends_with_the_connection(self) -> bool:
        """Whether the answer is complete because the connection has ended: it has neither length nor chunks."""
        if self._error is not None or self._answered is None or not self._answered.done():
            return False
        names = {name.lower() for name, _ in self._headers}
        if names & {b"content-length", b"transfer-encoding"}:
            return False
        self.on_message_complete()
        return True

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(self._error)
        self._more.set()
        if self._transport is not None:
            self._transport.abort()

    # The parser's side.

    def on_message_begin(self) -> None:
        if self._complete:
            self._keeps = False  # the server answers what was not asked
        else:
            self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._complete:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None  # noqa: S101 - it is calling
        status = self._parser.get_status_code()
        if status >= 200 and self._answered is not None and not self._answered.done():
            self._answered.set_result((status, self._headers))

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._pieces.append(body)
        self._buffered += len(body)
        self._header_bytes = 0
        self._more.set()

    def on_message_complete(self) -> None:
        if self._parser is not None and not self._complete and self._parser.get_status_code() >= 200:
            self._complete, self._keeps = True, self._parser.should_keep_alive()
            self._more.set()


class _Body(httpx2.AsyncByteStream):
    """The body of an answer, which gives its connection back when it is closed."""

    def __init__(self, connection: _Connection, transport: LeanTransport) -> None:
        self._connection, self._transport = connection, transport
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._connection.pieces():
            yield piece

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.finish()
            self._transport.release()
