"""A program's output on its way to the execution's stream.

Chunks are cut at UTF-8 boundaries, so that each entry reads by itself, and gathered for a moment when they come fast:
the first is handed on at once, and a program that writes single bytes costs no more than one that writes pages. While
Redis is away output waits here, bounded by the execution's ``output_bytes``.
"""

from __future__ import annotations

import codecs
import time

from orchestrator.errors import StaleAttempt, StoreUnavailable
from orchestrator.store.output import Output
from orchestrator.store.records import Claim

PAUSE_SECONDS = 0.02
ENTRY_BYTES = 64 * 1024


class OutputSink:
    """Bounded, ordered output of one attempt. Used by one thread."""

    def __init__(self, output: Output, claim: Claim, bound_bytes: int) -> None:
        self._output = output
        self._claim = claim
        self._left_bytes = bound_bytes
        self._waiting: list[tuple[str, bytearray]] = []
        self._tails: dict[str, bytes] = {}
        self._flushed = 0.0
        self.seen_bytes = {"stdout": 0, "stderr": 0}

    @property
    def exceeded(self) -> bool:
        """Whether the program wrote more than its bound."""
        return self._left_bytes < 0

    @property
    def pause_seconds(self) -> float | None:
        """How long what waits may still wait; ``None`` if nothing does."""
        if not self._waiting:
            return None
        return max(0.0, self._flushed + PAUSE_SECONDS - time.monotonic())

    def event(self, data: bytes) -> None:
        """Take a security event in; it keeps its place among the output."""
        self._waiting.append(("security", bytearray(data)))

    def write(self, type: str, data: bytes) -> None:
        """Take output in; what lies beyond the bound is counted and dropped."""
        self.seen_bytes[type] += len(data)
        kept = data[: max(0, self._left_bytes)]
        self._left_bytes -= len(data)
        if not kept:
            return
        text = self._tails.pop(type, b"") + kept
        cut = _boundary(text)
        if cut < len(text):
            self._tails[type] = text[cut:]
        if cut:
            self._add(type, text[:cut])

    def flush_if_due(self) -> None:
        """Hand on what waits, unless it was done a moment ago or Redis is away.

        Raises :class:`StaleAttempt` when another attempt owns the execution.
        """
        if self.pause_seconds == 0.0:
            try:
                self.flush()
            except StoreUnavailable:
                self._flushed = time.monotonic()

    def flush(self) -> None:
        """Hand on what waits. Raises :class:`StoreUnavailable`, :class:`StaleAttempt`."""
        batch = [(type, bytes(data), type == "security") for type, data in self._waiting]
        if batch and not self._output.append(self._claim.id, self._claim.attempt, batch):
            raise StaleAttempt()
        self._waiting.clear()
        self._flushed = time.monotonic()

    def finish(self) -> None:
        """No more output comes: what is left of a cut character goes too."""
        for type, tail in sorted(self._tails.items()):
            self._add(type, tail)
        self._tails.clear()

    def _add(self, type: str, data: bytes) -> None:
        if self._waiting and self._waiting[-1][0] == type and len(self._waiting[-1][1]) + len(data) <= ENTRY_BYTES:
            self._waiting[-1][1].extend(data)
        else:
            self._waiting.append((type, bytearray(data)))


def _boundary(data: bytes) -> int:
    """Where to cut so that no UTF-8 character is split; all of it when the tail is not the start of one."""
    for back in range(1, min(4, len(data) + 1)):
        decoder = codecs.getincrementaldecoder("utf-8")()
        lead = data[-back]
        if lead & 0xC0 == 0x80:
            continue
        if lead < 0x80:
            return len(data)
        try:
            return len(data) - back if decoder.decode(data[-back:]) == "" else len(data)
        except UnicodeDecodeError:
            return len(data)
    return len(data)
