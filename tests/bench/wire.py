"""One kept-alive HTTP connection to the API.

Clients share the two cores with what they measure, so this one parses no more than it must. It is for answers with a
length, and for streams that are read up to a marker.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

IDLE_SECONDS = 2.0  # the server closes an idle connection later than that
READ_BYTES = 256 * 1024


class Refused(Exception):
    """The API answered with an error."""


class Wire:
    """A client with one connection. Not thread-safe."""

    def __init__(self, port: int, token: str, timeout_seconds: float = 90.0) -> None:
        self._address = ("127.0.0.1", port)
        self._fixed = f"Host: localhost\r\nAuthorization: Bearer {token}\r\n"
        self._timeout_seconds = timeout_seconds
        self._socket: socket.socket | None = None
        self._used = 0.0

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def connect(self) -> socket.socket:
        """The connection, fresh where the old one may be closed by the other side."""
        if self._socket is None or time.monotonic() - self._used > IDLE_SECONDS:
            self.close()
            self._socket = socket.create_connection(self._address, self._timeout_seconds)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._used = time.monotonic()
        return self._socket

    def get(self, path: str) -> Any:
        """The JSON at a path. Raises :class:`Refused`."""
        return self.exchange(self.prepared("GET", path))

    def post(self, path: str, body: Any, wait_seconds: int | None = None) -> Any:
        """The JSON that a document is answered with. Raises :class:`Refused`."""
        return self.exchange(self.prepared("POST", path, body, wait_seconds))

    def prepared(self, method: str, path: str, body: Any = None, wait_seconds: int | None = None) -> bytes:
        """A request's bytes, to be sent as often as one likes."""
        data = b"" if body is None else json.dumps(body).encode()
        prefer = "" if wait_seconds is None else f"Prefer: wait={wait_seconds}\r\n"
        head = f"{method} {path} HTTP/1.1\r\n{self._fixed}{prefer}"
        if data:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        return f"{head}\r\n".encode() + data

    def exchange(self, request: bytes) -> Any:
        """Send a prepared request; the JSON of its answer. Raises :class:`Refused`."""
        stream = self.connect()
        try:
            stream.sendall(request)
            status, body = self._answer(stream)
        except BaseException:
            self.close()  # in the middle of an answer it is of no use
            raise
        self._used = time.monotonic()
        if status >= 400:
            raise Refused(f"{status}: {body[:1000].decode(errors='replace')}")
        return json.loads(body) if body else None

    def seconds_until(self, path: str, marker: bytes) -> float:
        """When (monotonic clock) a stream had ``marker`` in it. Raises :class:`Refused` when it ends before."""
        stream = self.connect()
        seen = b""
        try:
            stream.sendall(self.prepared("GET", path))
            while marker not in seen:
                data = stream.recv(READ_BYTES)
                if not data:
                    raise Refused(f"the stream ended without {marker!r}: {seen[-1000:]!r}")
                seen += data
            return time.monotonic()
        finally:
            self.close()  # the rest of the stream is of no interest

    @staticmethod
    def _answer(stream: socket.socket) -> tuple[int, bytes]:
        data = bytearray()
        while (end := data.find(b"\r\n\r\n")) < 0:
            chunk = stream.recv(READ_BYTES)
            if not chunk:
                raise Refused("the connection was closed before an answer came")
            data += chunk
        head = bytes(data[:end]).lower()
        _, found, rest = head.partition(b"\r\ncontent-length:")
        length = int(rest.partition(b"\r\n")[0]) if found else 0
        body = data[end + 4 :]
        while len(body) < length:
            chunk = stream.recv(READ_BYTES)
            if not chunk:
                raise Refused("the connection was closed in the middle of an answer")
            body += chunk
        return int(head[9:12]), bytes(body)
