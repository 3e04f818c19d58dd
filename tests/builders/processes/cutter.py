"""A proxy that breaks its first connections after so many bytes, and keeps what clients sent."""

from __future__ import annotations

import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

RESET = struct.pack("ii", 1, 0)  # close with a reset
NEVER = 2**62


class Cut(NamedTuple):
    """After how many bytes from the client, or to it, a connection breaks."""

    sent: int = NEVER
    received: int = NEVER


class Cutter:
    """In front of a port of this host; connections beyond the ``cuts`` stay whole."""

    def __init__(self, port: int, cuts: Iterable[Cut]) -> None:
        self._target, self._cuts = port, deque(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent: list[bytearray] = []  # by each connection's client

    def serve(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                cut = self._cuts.popleft() if self._cuts else Cut()
                server = socket.create_connection(("127.0.0.1", self._target))
                self.sent.append(bytearray())
                for source, sink, bytes_left, kept in (
                    (client, server, cut.sent, self.sent[-1]), (server, client, cut.received, bytearray()),
                ):  # fmt: skip
                    threading.Thread(target=_pump, args=(source, sink, bytes_left, kept), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _pump(source: socket.socket, sink: socket.socket, bytes_left: int, kept: bytearray) -> None:
    with suppress(OSError):  # the other direction has broken the connection
        while bytes_left and (data := source.recv(min(2**16, bytes_left))):
            kept += data
            sink.sendall(data)
            bytes_left -= len(data)
    for end in (source, sink):
        with suppress(OSError):
            if not bytes_left:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def cutter(port: int, *cuts: Cut) -> Iterator[Cutter]:
    made = Cutter(port, cuts)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    yield made
    made.close()
    thread.join()
