"""HTTP servers with the given answers, byte by byte; they keep the heads of the requests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"


class Answering:
    """Each connection gets the next list of answers, one for each request, and is closed after the last."""

    def __init__(self, connections: list[list[bytes]]) -> None:
        self._connections = connections
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.seen: list[list[str]] = []
        self.closed = [threading.Event() for _ in connections]

    def run(self) -> None:
        for answers, closed in zip(self._connections, self.closed, strict=True):
            peer, _ = self.listener.accept()
            self.seen.append([])
            with peer, peer.makefile("rb") as file:
                for answer in answers:
                    self.seen[-1].append(head_of(file))
                    peer.sendall(answer)
            closed.set()


def head_of(file: Any) -> str:
    lines = []
    while (line := file.readline()) not in (b"\r\n", b""):
        lines.append(line.decode().strip())
    return "\n".join(lines)


@contextmanager
def serving(*connections: list[bytes]) -> Iterator[Answering]:
    server = Answering(list(connections))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    with server.listener:
        yield server
        thread.join(60)
        assert not thread.is_alive()


@contextmanager
def refusing(*, reads_on: bool) -> Iterator[str]:
    """The URL of a server that refuses a request before it has read the body; then it reads the rest, or resets."""
    refusal = b'HTTP/1.1 413 Large\r\nConnection: close\r\nContent-Length: 15\r\n\r\n{"code": "big"}'
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        peer, _ = listener.accept()
        with peer, peer.makefile("rb") as file:
            head_of(file)
            peer.sendall(refusal)
            peer.shutdown(socket.SHUT_WR if reads_on else socket.SHUT_RDWR)
            while reads_on and file.read(2**20):
                pass

    thread = threading.Thread(target=refuse, daemon=True)
    thread.start()
    with listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(60)
        assert not thread.is_alive()
