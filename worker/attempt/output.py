"""Writes a program's output, and its results, to the execution's stream.

Chunks are cut at UTF-8 boundaries, so that each entry can be decoded alone, and batched for a short interval under
load: the first chunk is sent at once, and a program that writes single bytes costs no more than a program that writes
pages. Within an interval stdout and stderr keep their order for :data:`SWITCHES` entries; later chunks join the last
entry of their kind, and after :data:`FINE_ENTRIES` each interval has one entry of each. The intervals grow with the
number of entries, which bounds the entries of a long-running program.

Redis keeps the first :data:`INLINE_BYTES` of an attempt's output. The rest goes to the blob directory, and so does all
output beyond the capacity of Redis or the tenant's share; the stream has references to it. So an end can always be
written, and takes little memory.

The state ``running`` is written together with the first output, or after a moment without output, and the end together
with the last output; all in one step if the end comes with the first output. Only for an execution that may not be
started twice, ``running`` is written before the start.
While Redis is unavailable, output is buffered here, bounded by the execution's ``output_bytes``. A step without an
answer is sent again unchanged, under the same token, so that the stream gets its entries once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.characters import whole_characters
from orchestrator.errors import BlobsUnavailable, StaleAttempt, StoreFull, StoreUnavailable
from orchestrator.models import Result
from orchestrator.models.results import ResultBundle
from orchestrator.models.security import SecurityEvent
from orchestrator.store import Store
from orchestrator.store.executions.records import Claim
from orchestrator.store.output import file_of
from orchestrator.store.steps import OUTPUT, OUTSIDE, SECURITY, NewEntry, new_token

PAUSE_SECONDS = 0.02  # for the first FINE_ENTRIES, then twice as long for as many more, and so on
LONGEST_PAUSE_SECONDS = 1.0  # also while Redis is full
FINE_ENTRIES = 512
SWITCHES = 8
INLINE_BYTES = 64 * 1024
UNWRITTEN = -1  # kind of an entry whose output must still be written to its file
BEGIN_SECONDS = 0.01  # a short program has printed by then
ENTRY_BYTES = 64 * 1024


class OutputSink:
    """Bounded, ordered output of one attempt. Used by one thread."""

    def __init__(self, store: Store, claim: Claim, bound_bytes: int) -> None:
        self._store = store
        self._claim = claim
        self._left_bytes = bound_bytes
        self._waiting: list[tuple[str, bytearray | SecurityEvent]] = []
        self._last_of: dict[str, bytearray] = {}  # the last waiting entry of each kind
        self._pause_seconds = PAUSE_SECONDS
        self._entries = 0  # output entries on the stream
        self._inline_left_bytes = INLINE_BYTES
        self._outside_bytes = {"stdout": 0, "stderr": 0, "result": 0}
        self._tails: dict[str, bytes] = {}
        self._cut: set[str] = set()  # the streams with dropped bytes
        self._began: float | None = None  # monotonic; None once the state is written
        self._begun = False
        self._due = 0.0  # monotonic
        self._sent: tuple[list[NewEntry], str] | None = None  # the batch without an answer yet
        self._last: tuple[list[NewEntry], str] | None = None  # the same for the end's batch
        self.seen_bytes = {"stdout": 0, "stderr": 0}

    @property
    def exceeded(self) -> bool:
        """Whether the program wrote more than its bound."""
        return self._left_bytes < 0

    @property
    def pause_seconds(self) -> float | None:
        """Seconds until pending output must be sent; ``None`` without pending output."""
        if self._waiting or self._sent:
            return max(0.0, self._due - time.monotonic())
        if self._began is not None:
            return max(0.0, self._due - time.monotonic(), self._began + BEGIN_SECONDS - time.monotonic())
        return None

    def begin(self) -> None:
        """Record that the program has started."""
        if not self._begun:
            self._began = time.monotonic()

    def announce(self) -> None:
        """Write the state ``running`` before the program starts. Raises :class:`StoreUnavailable`,
        :class:`StaleAttempt`.
        """
        self.begin()
        self.flush()

    def event(self, event: SecurityEvent) -> None:
        """Add a security event, in its place among the output."""
        self._waiting.append(("security", event))

    def result(self, bundle: ResultBundle) -> None:
        """Add a result, whose bounds are its own, as a line of JSON."""
        self._waiting.append(("result", bytearray(bundle.model_dump_json().encode() + b"\n")))

    def write(self, type: str, data: bytes) -> None:
        """Add output; bytes beyond the bound are counted and dropped."""
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
        """Send pending output, unless the interval has not passed or Redis is away.

        Raises :class:`StaleAttempt` when another attempt owns the execution.
        """
        if self.pause_seconds == 0.0:
            try:
                self.flush()
            except (StoreUnavailable, BlobsUnavailable):
                self._due = time.monotonic() + PAUSE_SECONDS

    def flush(self) -> None:
        """Send pending output. Raises :class:`StoreUnavailable`, :class:`BlobsUnavailable`, :class:`StaleAttempt`."""
        if self._sent is None:
            self._sent = self._batch(), new_token()
        batch, token = self._sent
        self._hand_on(batch, lambda: self._step(batch, token))
        self._sent = None
        self._due = time.monotonic() + self._pause_seconds if batch else 0.0  # the first output is sent at once

    def _step(self, batch: list[NewEntry], token: str) -> None:
        if (started_at := self._unwritten_start()) is not None:
            self._store.records.start(self._claim, started_at, batch, token)
            self._began, self._begun = None, True
        elif batch and not self._store.output.append(self._claim.id, self._claim.attempt, batch, token):
            raise StaleAttempt()

    def commit(self, result: Result) -> None:
        """Send pending output and end the execution. Raises as :meth:`flush` does."""
        if self._sent:
            self.flush()
        if self._last is None:
            self._last = self._batch(), new_token()
        batch, token = self._last
        started_at = self._unwritten_start()
        self._hand_on(batch, lambda: self._store.records.commit(self._claim, result, batch, token, started_at))

    def _unwritten_start(self) -> float | None:
        """The time of the start, unless it is written; ``None`` also for a program that has not started."""
        return None if self._began is None else time.time() - (time.monotonic() - self._began)

    def _hand_on(self, batch: list[NewEntry], step: Callable[[], None]) -> None:
        """Send a step with a batch; if Redis has no room for its output, with that output in the file."""
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
        """Write a batch's output to its file instead of Redis, once."""
        for position, (type, data, kind) in enumerate(batch):
            if kind == UNWRITTEN and isinstance(data, bytes):
                offset = self._outside_bytes[type]
                self._store.blobs.write_output(self._claim.id, self._claim.attempt, file_of(type), offset, data)
                self._outside_bytes[type] += len(data)
                batch[position] = type, b"%d %d" % (offset, len(data)), OUTSIDE

    def finish(self) -> None:
        """Finish the output: the rest of an incomplete character is sent too, unless the bound cut it off."""
        for type, tail in sorted(self._tails.items()):
            if type not in self._cut:
                self._add(type, tail)
        self._tails.clear()

    def _batch(self) -> list[NewEntry]:
        """Take the pending output."""
        batch: list[NewEntry] = []
        for type, data in self._waiting:
            if isinstance(data, SecurityEvent):
                batch.append((type, data, SECURITY))
                continue
            if len(data) > self._inline_left_bytes:
                self._inline_left_bytes = 0  # permanently: the file has all output after the part in Redis
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
