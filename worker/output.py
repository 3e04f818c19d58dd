"""A program's output on its way to the execution's stream.

Chunks are cut at UTF-8 boundaries, so that each entry reads by itself, and gathered for a moment when they come fast:
the first is handed on at once, and a program that writes single bytes costs no more than one that writes pages. That
the program runs is told together with its first output, or after a moment in which it said nothing, and its end
together with the last; only of one that may not be started twice it is told before it starts. While Redis is away
output waits here, bounded by the execution's ``output_bytes``. What was sent and not answered is sent again as it was,
under the same name, so that it comes into the stream once.
"""

from __future__ import annotations

import time

from orchestrator.characters import whole_characters
from orchestrator.errors import StaleAttempt, StoreUnavailable
from orchestrator.models import Result
from orchestrator.store import Store
from orchestrator.store.records import Claim
from orchestrator.store.steps import NewEntry, new_token

PAUSE_SECONDS = 0.02
BEGIN_SECONDS = 0.01  # a short program has said something by then
ENTRY_BYTES = 64 * 1024


class OutputSink:
    """Bounded, ordered output of one attempt. Used by one thread."""

    def __init__(self, store: Store, claim: Claim, bound_bytes: int) -> None:
        self._store = store
        self._claim = claim
        self._left_bytes = bound_bytes
        self._waiting: list[tuple[str, bytearray]] = []
        self._tails: dict[str, bytes] = {}
        self._cut: set[str] = set()  # of which something was dropped
        self._began: float | None = None  # monotonic, until it is told
        self._told = False
        self._due = 0.0  # monotonic
        self._sent: tuple[list[NewEntry], str] | None = None  # and not answered
        self._last: tuple[list[NewEntry], str] | None = None  # the same, of the end
        self.seen_bytes = {"stdout": 0, "stderr": 0}

    @property
    def exceeded(self) -> bool:
        """Whether the program wrote more than its bound."""
        return self._left_bytes < 0

    @property
    def pause_seconds(self) -> float | None:
        """How long what waits may still wait; ``None`` if nothing does."""
        if self._waiting or self._sent:
            return max(0.0, self._due - time.monotonic())
        if self._began is not None:
            return max(0.0, self._due - time.monotonic(), self._began + BEGIN_SECONDS - time.monotonic())
        return None

    def begin(self) -> None:
        """The program runs from now on."""
        if not self._told:
            self._began = time.monotonic()

    def announce(self) -> None:
        """Tell that the program runs, before it does. Raises :class:`StoreUnavailable`, :class:`StaleAttempt`."""
        self.begin()
        self.flush()

    def event(self, data: bytes) -> None:
        """Take a security event in; it keeps its place among the output."""
        self._waiting.append(("security", bytearray(data)))

    def write(self, type: str, data: bytes) -> None:
        """Take output in; what lies beyond the bound is counted and dropped."""
        self.seen_bytes[type] += len(data)
        kept = data[: max(0, self._left_bytes)]
        self._left_bytes -= len(data)
        if len(kept) < len(data):
            self._cut.add(type)
        if not kept:
            return
        text = self._tails.pop(type, b"") + kept
        cut = whole_characters(text)
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
                self._due = time.monotonic() + PAUSE_SECONDS

    def flush(self) -> None:
        """Hand on what waits. Raises :class:`StoreUnavailable`, :class:`StaleAttempt`."""
        if self._sent is None:
            self._sent = self._batch(), new_token()
            self._waiting = []
        batch, token = self._sent
        if self._began is not None:
            began = time.time() - (time.monotonic() - self._began)
            self._store.records.start(self._claim, began, batch, token)
            self._began, self._told = None, True
        elif batch and not self._store.output.append(self._claim.id, self._claim.attempt, batch, token):
            raise StaleAttempt()
        self._sent = None
        self._due = time.monotonic() + PAUSE_SECONDS if batch else 0.0  # nobody waits for output behind no output

    def commit(self, result: Result) -> None:
        """End the execution, behind what waits. Raises :class:`StoreUnavailable`, :class:`StaleAttempt`."""
        if self._began is not None or self._sent:
            self.flush()
        if self._last is None:
            self._last = self._batch(), new_token()
        self._store.records.commit(self._claim, result, *self._last)

    def finish(self) -> None:
        """No more output comes: what is left of a character goes too, unless the bound cut it off."""
        for type, tail in sorted(self._tails.items()):
            if type not in self._cut:
                self._add(type, tail)
        self._tails.clear()

    def _batch(self) -> list[NewEntry]:
        return [(type, bytes(data), type == "security") for type, data in self._waiting]

    def _add(self, type: str, data: bytes) -> None:
        if self._waiting and self._waiting[-1][0] == type and len(self._waiting[-1][1]) + len(data) <= ENTRY_BYTES:
            self._waiting[-1][1].extend(data)
        else:
            self._waiting.append((type, bytearray(data)))
