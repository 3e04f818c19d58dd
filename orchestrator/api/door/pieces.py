"""Bounds the pieces of an incoming body: its chunks, or the parts of chunks that arrive together.

Each piece, of any size, occupies the event loop for some microseconds, and all other connections wait meanwhile. With
chunks of one byte a single connection, which needs no key, would delay all others by seconds.
"""

from __future__ import annotations

from orchestrator.errors import MalformedRequest

FREE_PIECES = 1000
LEAST_BYTES = 32  # of each further piece, on average


class BodyPieces:
    """Counts the pieces of one body."""

    def __init__(self) -> None:
        self._left = float(FREE_PIECES)

    def refusal(self, size: int) -> MalformedRequest | None:
        """Count a piece of ``size`` bytes; the error if the pieces are too many and too small."""
        self._left = min(FREE_PIECES, self._left + size / LEAST_BYTES - 1)  # a large piece pays for no others
        if self._left >= 0:
            return None
        message = f"The body has chunks of fewer than {LEAST_BYTES} bytes on average; send fewer and larger chunks."
        return MalformedRequest(message, bound=LEAST_BYTES)
