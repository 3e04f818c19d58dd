"""Copies the two byte streams of an attached container."""

from __future__ import annotations

import socket
from contextlib import suppress

READ_BYTES = 64 * 1024


def copy(source: socket.socket, target: socket.socket, first: bytes = b"") -> None:
    """Copy bytes until the source ends, and then end the target's input; when a peer is gone, end both."""
    buffer = memoryview(bytearray(READ_BYTES))
    try:
        target.sendall(first)
        while received := source.recv_into(buffer):
            target.sendall(buffer[:received])
        target.shutdown(socket.SHUT_WR)
    except OSError:
        end(source, target)


def end(*sockets: socket.socket) -> None:
    """End both directions of some sockets. Idempotent."""
    for one in sockets:
        with suppress(OSError):  # ended already
            one.shutdown(socket.SHUT_RDWR)
