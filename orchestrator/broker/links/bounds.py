"""The bounds of one exchange with a tool server, and the cause of its failure.

A transport of the library handles requests in its own tasks, which inherit the caller's context. The exchange is a
variable of this context. From it the transport gets the bound of the answer, and the caller the cause of a failure,
since the library reports every failure only as an error with a text.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

import anyio

CATALOGUE_BYTES = 2 * 2**20  # of all pages of a list; on a pipe, of each page

MOST_MESSAGES = 5000  # of one server in a second, and as many lines of its standard error
UNASKED_BYTES = 256 * 1024  # in a second, of an event stream that stays open, and of long unasked messages of a pipe
LONG_MESSAGE = 64 * 1024  # bytes; the parser of a longer message keeps the event loop, and all other threads, waiting
REST = 3  # times the time of parsing: long messages of one server take at most a quarter of the event loop


class Pace:
    """The bound on what one server sends in a second, since the broker's event loop serves all servers."""

    def __init__(self, most: int, seconds: float = 1.0) -> None:
        self._most, self._seconds = most, seconds
        self._count, self._ends = 0, time.monotonic() + seconds
        self._rest = 0.0

    def rest(self, seconds: float) -> None:
        """Let the next message wait: the last one was a long one."""
        self._rest += seconds

    async def keep(self, count: int = 1) -> None:
        """Count messages or bytes; wait for the end of the second if there are too many."""
        if self._rest:
            rest, self._rest = self._rest, 0.0
            await anyio.sleep(rest)
        now = time.monotonic()
        if now >= self._ends:
            self._count, self._ends = 0, now + self._seconds
        self._count += count
        if self._count >= self._most:
            await anyio.sleep(self._ends - now)


class Exchange:
    """A call, or the requests of a list: ``most_bytes`` bounds the answers together. ``ends`` is false for the
    connection's own requests, whose event streams stay open.
    """

    def __init__(self, most_bytes: int = CATALOGUE_BYTES, ends: bool = True) -> None:
        self.most_bytes, self.ends = most_bytes, ends
        self.received_bytes = 0
        self.too_large = False
        self.unsent: str | None = None  # why no connection was made: the server saw nothing of the request
        self.broken: str | None = None  # why the connection ended: the server may have seen the request
        self.refused: int | None = None  # the status of an HTTP answer that is not MCP

    @property
    def cause(self) -> str:
        """The transport's cause of the failure, if known."""
        if self.unsent is not None or self.broken is not None:
            return self.unsent or self.broken or ""
        if self.too_large:
            return f"the answer has more than {self.most_bytes} bytes"
        return f"the server answers with status {self.refused}" if self.refused else ""


EXCHANGE: ContextVar[Exchange] = ContextVar("exchange")


def current() -> Exchange:
    """The exchange of this context; outside of any, one of the connection itself."""
    return EXCHANGE.get(None) or Exchange(ends=False)
