"""The bounds of one exchange with a tool server, and the cause of its failure.

A transport of the library handles requests in its own tasks, which inherit the caller's context. The exchange is a
variable of this context. From it the transport gets the bound of the answer, and the caller the cause of a failure,
since the library reports every failure only as an error with a text.
"""

from __future__ import annotations

from contextvars import ContextVar

CATALOGUE_BYTES = 16 * 2**20  # of all pages of a list, and of unsolicited messages


class Exchange:
    """A request to a tool server, or the requests of a list. ``most_bytes`` bounds the answers together; ``is_call`` is
    false for the connection's own requests.
    """

    def __init__(self, most_bytes: int = CATALOGUE_BYTES, is_call: bool = False) -> None:
        self.most_bytes, self.is_call = most_bytes, is_call
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
        return f"the server answers with status {self.refused}" if self.refused else ""


EXCHANGE: ContextVar[Exchange] = ContextVar("exchange")


def current() -> Exchange:
    """The exchange of this context; a new one outside of calls."""
    return EXCHANGE.get(None) or Exchange()
