"""A sandbox's byte stream: a connected socket, with a bound on every wait."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress

from orchestrator.errors import RuntimeUnavailable

READ_BYTES = 256 * 1024


class Stream:
    """One socket, from :meth:`connect` to :meth:`close`. Several threads may write and close, one reads."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()  # taken to write to or close the descriptor, so that it is not reused in a write

    def connect(self, connected: socket.socket) -> None:
        """Take over a connected socket. Called once."""
        self._socket = connected

    def send(self, data: bytes, timeout_seconds: float) -> None:
        """Write all of ``data``. Raises :class:`RuntimeUnavailable` if the peer does not read it in time, or has
        closed.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            if self._socket is None or self._socket.fileno() < 0:
                raise RuntimeUnavailable("The sandbox's input is closed.")
            rest = memoryview(data)
            writable = select.poll()  # unlike `select`, returns also when the socket is shut down
            writable.register(self._socket, select.POLLOUT)
            while rest:
                if not writable.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    raise RuntimeUnavailable("The sandbox did not read its input in time.")
                try:
                    rest = rest[self._socket.send(rest, socket.MSG_DONTWAIT) :]
                except OSError as error:
                    raise RuntimeUnavailable("The sandbox's input is closed.") from error

    def receive(self, timeout_seconds: float, pidfd: int = -1) -> bytes | None:
        """The received bytes; ``b""`` at the end of the stream, ``None`` after the time-out.

        The end of the process of ``pidfd`` also counts as the end, for a stream that other processes keep open.
        """
        if self._socket is None or self._socket.fileno() < 0:
            return b""
        sources = [self._socket.fileno(), *([pidfd] if pidfd >= 0 else [])]
        readable, _, _ = select.select(sources, [], [], max(0.0, timeout_seconds))
        if not readable:
            return None
        if readable == [pidfd] and not select.select(sources[:1], [], [], 0)[0]:  # the peer may have written in between
            return b""
        try:
            return self._socket.recv(READ_BYTES)
        except OSError:  # a reset by the peer counts as the end of the stream
            return b""

    def begun(self, timeout_seconds: float) -> bool:
        """Whether the peer has written within that time; the bytes remain to be received."""
        if self._socket is None:
            return False
        readable, _, _ = select.select([self._socket], [], [], timeout_seconds)
        return bool(readable) and self._socket.recv(1, socket.MSG_PEEK) != b""

    def close(self) -> None:
        """Close the socket: a thread that writes to it ends, the agent sees the end of its input. Idempotent."""
        if self._socket is None:
            return
        with suppress(OSError):  # the peer has closed it, or this is the second call
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._socket.close()
