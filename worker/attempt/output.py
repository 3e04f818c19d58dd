"""A program's output on its way to the execution's stream.

Chunks are cut at UTF-8 boundaries, so that each entry reads by itself, and gathered for a moment when they come fast:
the first is handed on at once, and a program that writes single bytes costs no more than one that writes pages. In such
a moment stdout and stderr keep their order for :data:`SWITCHES` entries; what comes behind them joins the last entry of
its kind, and after :data:`FINE_ENTRIES` each moment has one of each. The moments grow with the number of entries, so
that a program cannot make many of them however long it runs.

Redis keeps the first :data:`INLINE_BYTES` of an attempt's output. The rest goes into the blob directory, and so does
all that Redis or the tenant's share of it has no room for; the stream only says where it lies. So an end can always be
written, and takes little room.

That the program runs is told together with its first output, or after a moment in which it said nothing, and its end
together with the last; only of one that may not be started twice it is told before it starts. While Redis is away
output waits here, bounded by the execution's ``output_bytes``. What was sent and not answered is sent again as it was,
under the same name, so that it comes into the stream once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.characters import whole_characters
from orchestrator.errors import BlobsUnavailable, StaleAttempt, StoreFull, StoreUnavailable
from orchestrator.models import Result
from orchestrator.models.security import SecurityEvent
from orchestrator.store import Store
from orchestrator.store.executions.records import Claim
from orchestrator.store.steps import OUTPUT, OUTSIDE, SECURITY, NewEntry, new_token

PAUSE_SECONDS = 0.02  # for the first FINE_ENTRIES, then twice as long for as many more, and so on
LONGEST_PAUSE_SECONDS = 1.0  # also where Redis has no room
FINE_ENTRIES = 512
SWITCHES = 8
INLINE_BYTES = 64 * 1024
UNWRITTEN = -1  # kind of an entry whose output is to lie outside of Redis, and does not yet
BEGIN_SECONDS = 0.01  # a short program has said something by then
ENTRY_BYTES = 64 * 1024


class OutputSink:
    """Bounded, ordered output of one attempt. Used by one thread."""

    def __init__(self, store: Store, claim: Claim, bound_bytes: int) -> None:
        self._store = store
        self._claim = claim
        self._left_bytes = bound_bytes
        self._waiting: list[tuple[str, bytearray | SecurityEvent]] = []
        self._last_of: dict[str, bytearray] = {}  # of what waits, the last of each kind
        self._pause_seconds = PAUSE_SECONDS
        self._entries = 0  # of output, on the stream
        self._inline_left_bytes = INLINE_BYTES
        self._outside_bytes = {"stdout": 0, "stderr": 0}
        self._tails: dict[str, bytes] = {}
        self._cut: set[str] = set()  # of which something was dropped
        self._began: float | None = None  # monotonic, until it is told
        self._begun = False
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
        if not self._begun:
            self._began = time.monotonic()

    def announce(self) -> None:
        """Tell that the program runs, before it does. Raises :class:`StoreUnavailable`, :class:`StaleAttempt`."""
        self.begin()
        self.flush()

    def event(self, event: SecurityEvent) -> None:
        """Take a security event in; it keeps its place among the output."""
        self._waiting.append(("security", event))

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
            except (StoreUnavailable, BlobsUnavailable):
                self._due = time.monotonic() + PAUSE_SECONDS

    def flush(self) -> None:
        """Hand on what waits. Raises :class:`StoreUnavailable`, :class:`BlobsUnavailable`, :class:`StaleAttempt`."""
        if self._sent is None:
            self._sent = self._batch(), new_token()
        batch, token = self._sent
        self._hand_on(batch, lambda: self._step(batch, token))
        self._sent = None
        self._due = time.monotonic() + self._pause_seconds if batch else 0.0  # nobody waits for output behind no output

    def _step(self, batch: list[NewEntry], token: str) -> None:
        if self._began is not None:
            began = time.time() - (time.monotonic() - self._began)
            self._store.records.start(self._claim, began, batch, token)
            self._began, self._begun = None, True
        elif batch and not self._store.output.append(self._claim.id, self._claim.attempt, batch, token):
            raise StaleAttempt()

    def commit(self, result: Result) -> None:
        """End the execution, behind what waits. Raises as :meth:`flush` does."""
        if self._began is not None or self._sent:
            self.flush()
        if self._last is None:
            self._last = self._batch(), new_token()
        batch, token = self._last
        self._hand_on(batch, lambda: self._store.records.commit(self._claim, result, batch, token))

    def _hand_on(self, batch: list[NewEntry], step: Callable[[], None]) -> None:
        """Take a step with a batch; where Redis has no room for its output, with that output outside."""
        self._write_outside(batch)
        try:
            step()
        except StoreFull:
            if all(kind != OUTPUT for _, _, kind in batch):
                raise
            batch[:] = [(type, data, UNWRITTEN if kind == OUTPUT else kind) for type, data, kind in batch]
            self._inline_left_bytes, self._pause_seconds = 0, LONGEST_PAUSE_SECONDS
            self._write_outside(batch)
            step()
        self._entries += len(batch)
        slower = PAUSE_SECONDS * 2.0 ** min(10, self._entries // FINE_ENTRIES)
        self._pause_seconds = max(self._pause_seconds, min(slower, LONGEST_PAUSE_SECONDS))

    def _write_outside(self, batch: list[NewEntry]) -> None:
        """Put output of a batch that is to be outside of Redis into its file, once."""
        for position, (type, data, kind) in enumerate(batch):
            if kind == UNWRITTEN and isinstance(data, bytes):
                offset = self._outside_bytes[type]
                self._store.blobs.write_output(self._claim.id, self._claim.attempt, type, offset, data)
                self._outside_bytes[type] += len(data)
                batch[position] = type, b"%d %d" % (offset, len(data)), OUTSIDE

    def finish(self) -> None:
        """No more output comes: what is left of a character goes too, unless the bound cut it off."""
        for type, tail in sorted(self._tails.items()):
            if type not in self._cut:
                self._add(type, tail)
        self._tails.clear()

    def _batch(self) -> list[NewEntry]:
        """What waits, which does not any more."""
        batch: list[NewEntry] = []
        for type, data in self._waiting:
            if isinstance(data, SecurityEvent):
                batch.append((type, data, SECURITY))
                continue
            if len(data) > self._inline_left_bytes:
                self._inline_left_bytes = 0  # for good: the file has all that comes behind what Redis has
            self._inline_left_bytes -= min(len(data), self._inline_left_bytes)
            batch.append((type, bytes(data), OUTPUT if self._inline_left_bytes else UNWRITTEN))
        self._waiting, self._last_of = [], {}
        return batch

    def _add(self, type: str, data: bytes) -> None:
        last = self._last_of.get(type)
        switches = SWITCHES if self._entries < FINE_ENTRIES else 1
        merges = last is not None and (len(self._waiting) >= switches or self._waiting[-1][1] is last)
        if last is not None and merges and len(last) + len(data) <= ENTRY_BYTES:
            last.extend(data)
        else:
            self._last_of[type] = bytearray(data)
            self._waiting.append((type, self._last_of[type]))
