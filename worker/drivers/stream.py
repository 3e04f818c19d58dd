"""A sandbox's byte stream: a connected socket, with a bound on every wait."""

from __future__ import annotations

import select
import socket
import threading
import time

from orchestrator.errors import RuntimeUnavailable

READ_BYTES = 256 * 1024


class Stream:
    """One socket. Several threads may write, one reads."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._lock = threading.Lock()

    def send(self, data: bytes, timeout_seconds: float) -> None:
        """Write all of ``data``. Raises :class:`RuntimeUnavailable` when it is not taken in time, or at all."""
        deadline = time.monotonic() + timeout_seconds
        with self._lock:
            rest = memoryview(data)
            while rest:
                _, writable, _ = select.select([], [self._socket], [], max(0.0, deadline - time.monotonic()))
                if not writable:
                    raise RuntimeUnavailable("The sandbox did not read its input in time.")
                try:
                    rest = rest[self._socket.send(rest, socket.MSG_DONTWAIT) :]
                except OSError as error:
                    raise RuntimeUnavailable("The sandbox's input is closed.") from error

    def receive(self, timeout_seconds: float, pidfd: int = -1) -> bytes | None:
        """What has come; ``b""`` at the end, ``None`` when the time is over.

        The end is also that the process of ``pidfd`` has ended, for a stream that others hold open, too.
        """
        sources = [self._socket.fileno(), *([pidfd] if pidfd >= 0 else [])]
        readable, _, _ = select.select(sources, [], [], max(0.0, timeout_seconds))
        if not readable:
            return None
        if readable == [pidfd] and not select.select(sources[:1], [], [], 0)[0]:  # it may have spoken in between
            return b""
        try:
            return self._socket.recv(READ_BYTES)
        except OSError:  # reset by a peer that went away: the end of the stream as far as we can see
            return b""

    def begun(self, timeout_seconds: float) -> bool:
        """Whether the peer has written something within that time; it stays to be received."""
        readable, _, _ = select.select([self._socket], [], [], timeout_seconds)
        return bool(readable) and self._socket.recv(1, socket.MSG_PEEK) != b""

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._socket.close()
