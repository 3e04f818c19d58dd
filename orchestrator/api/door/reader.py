"""The reader of one connection's answers: cut off if the reader stalls, or is slower than the least rate.

Only the time counts in which an answer waits for its reader, so a stream that is quiet for hours is never cut. The
kernel knows how many bytes the client has acknowledged; what lies in the buffers of this host does not count as read.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from orchestrator.api.door.table import Bounds

ACKNOWLEDGED = struct.Struct("=120xQ")  # of linux/tcp.h, struct tcp_info: tcpi_bytes_acked


class Reader:
    """Calls ``cut`` when a reader is too slow. Used only by the event loop's thread.

    An answer may wait for ``stall_seconds``, and one more second for each ``answer_rate`` bytes read meanwhile; and no
    longer than ``stall_seconds`` without a byte read.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, bounds: Bounds, cut: Callable[[], None]
    ) -> None:
        self._loop, self._transport, self._bounds, self._cut = loop, transport, bounds, cut
        self._timer: asyncio.TimerHandle | None = None
        self._is_new = True  # no byte of the answer has waited yet
        self._is_lost = False
        self._first = self._read = 0  # acknowledged bytes: when the answer first waited, and at the last look
        self._waited_seconds = self._since = 0.0

    def wait(self) -> None:
        """Record that an answer waits for its reader."""
        if self._timer is not None or self._is_lost:
            return
        self._read, self._since = self._acknowledged(), self._loop.time()
        if self._is_new:
            self._is_new, self._first, self._waited_seconds = False, self._read, 0.0
        self._look_later()

    def resume(self) -> None:
        """Record that the answer continues."""
        if self._timer is not None:
            self._waited_seconds += self._loop.time() - self._since
            self._stop()

    def begin(self) -> None:
        """Record that what follows is another answer."""
        self._is_new = True

    def end(self) -> None:
        """Record that the connection is lost, and with it the socket."""
        self._is_lost = True
        self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _left_seconds(self) -> float:
        """The time for which the answer may still wait."""
        allowed = self._bounds.stall_seconds + (self._read - self._first) / self._bounds.answer_rate
        return allowed - self._waited_seconds

    def _look_later(self) -> None:
        seconds = max(0.0, min(self._bounds.stall_seconds, self._left_seconds))
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer, now, before = None, self._loop.time(), self._read
        self._waited_seconds += now - self._since
        self._since, self._read = now, self._acknowledged()
        if self._read == before or self._left_seconds <= 0:
            self._cut()
        else:
            self._look_later()

    def _acknowledged(self) -> int:
        found: socket.socket = self._transport.get_extra_info("socket")
        (count,) = ACKNOWLEDGED.unpack(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, ACKNOWLEDGED.size))
        return int(count)
