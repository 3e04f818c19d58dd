"""The stream of one execution for a following client: page by page, so that memory holds only what the client reads.

A single read gets the record and the first entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.errors import NotFound
from orchestrator.models.stream import Entry
from orchestrator.states import TERMINAL, State
from orchestrator.store import Store
from orchestrator.store.output import BEGINNING, PAGE

KEPT_BYTES = 256 * 1024  # of output in memory, while the client reads


class StreamPage(NamedTuple):
    """Some entries with their data, and whether the stream has no further entries for now."""

    entries: list[Entry]
    is_all: bool


class Follower:
    """Reads one execution's stream, from one thread at a time."""

    def __init__(self, store: Store, id: str, tenant: str, after: str) -> None:
        """Raises :class:`NotFound`."""
        self._store, self._id = store, id
        self._after, self._asked = after, BEGINNING
        execution, found = store.records.read(id, tenant, after)
        self.over = State(execution.state) in TERMINAL  # an ended execution gets no further entries
        self._first = [self._page(found)]

    def first(self) -> StreamPage:
        """The page of the first read; returned once, without another read."""
        return self._first.pop()

    def next(self) -> StreamPage:
        """The entries behind those of the last page. Entries that the last page left out are read again, not kept."""
        return self._page(self._store.output.read(self._id, self._after, self._asked))

    def is_over(self) -> bool:
        """Whether no more entries can come: the execution ended before the reader's position, or was deleted."""
        try:
            execution = self._store.records.get(self._id, None)
        except NotFound:
            return True
        return State(execution.state) in TERMINAL

    def _page(self, found: Sequence[Entry]) -> StreamPage:
        entries = few(found)
        is_all = len(entries) == len(found) < self._asked
        self._asked = max(1, len(entries)) if len(entries) < len(found) else min(2 * self._asked, PAGE)
        self._after = entries[-1].id if entries else self._after
        return StreamPage(self._store.output.filled(self._id, entries), is_all)


def few(entries: Sequence[Entry]) -> list[Entry]:
    """The first entries, at least one, with at most :data:`KEPT_BYTES` together."""
    size = 0
    for position, entry in enumerate(entries):
        size += entry.span[1] if entry.span else len(entry.data)
        if size > KEPT_BYTES:
            return list(entries[: max(1, position)])
    return list(entries)
