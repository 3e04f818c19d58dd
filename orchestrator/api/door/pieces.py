"""The pieces of an incoming body: its chunks, or the parts of them that arrive at a time.

A piece costs the event loop some microseconds, of whatever size it is, and all other connections wait meanwhile. With
chunks of one byte a single connection, which needs no key, would delay every other by seconds.
"""

from __future__ import annotations

from orchestrator.errors import MalformedRequest

FREE_PIECES = 1000
LEAST_BYTES = 32  # of a piece beyond those, on average


class BodyPieces:
    """Counts the pieces of one body."""

    def __init__(self) -> None:
        self._left = float(FREE_PIECES)

    def refusal(self, size: int) -> MalformedRequest | None:
        """Count a piece of ``size`` bytes; the error if the pieces are too many and too small."""
        self._left = min(FREE_PIECES, self._left + size / LEAST_BYTES - 1)  # a large piece pays for no later ones
        if self._left >= 0:
            return None
        message = f"The body comes in chunks of fewer than {LEAST_BYTES} bytes on average; send fewer and larger ones."
        return MalformedRequest(message, bound=LEAST_BYTES)
