"""The stream of one execution: state changes, output and security events, in the order they happened.

A Redis stream entry has ``t`` (type), ``d`` (data) and ``a`` (attempt). Output of an attempt that was lost to a
platform fault stays in the stream for those who saw it live, and does not count for the result. A security event also
has ``s`` (source), and stands in the logs of :mod:`orchestrator.store.security` too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from orchestrator.states import State
from orchestrator.store import keys
from orchestrator.store.connection import StoreConnection
from orchestrator.store.steps import NewEntry, Steps

PAGE = 256
BEGINNING = 32  # entries that are read together with a record


class Entry(NamedTuple):
    """One entry; ``id`` is Redis's and orders them."""

    id: str
    type: str
    data: bytes
    attempt: int
    source: str = ""  # who wrote a security event


class Output:
    """Appends to and reads executions' streams. Thread-safe."""

    def __init__(self, connection: StoreConnection, steps: Steps) -> None:
        self._redis: Any = connection
        self._steps = steps

    def append(self, id: str, attempt: int, entries: Sequence[NewEntry], token: str | None = None) -> bool:
        """Append entries for an attempt; ``False`` if it is not the owner any more.

        Security events may also come when the attempt has ended; output may not, which somebody was told is complete.
        """
        late = all(security for _, _, security in entries)
        sources = () if late else (State.STARTING, State.RUNNING)
        return self._steps.step(id, attempt, None, sources, entries=entries, token=token)

    def read(self, id: str, after: str = "-", count: int = PAGE) -> list[Entry]:
        """Up to ``count`` entries after the entry id ``after`` (``-``: from the start)."""
        return [entry_of(row) for row in self._redis.xrange(keys.stream(id), start_after(after), "+", count)]

    def entries(self, id: str, begun: list[Entry] | None = None) -> Iterator[Entry]:
        """Every entry there is, page by page; ``begun`` is what :meth:`Records.read` gave of them."""
        page, asked = (self.read(id), PAGE) if begun is None else (begun, BEGINNING)
        while True:
            yield from page
            if len(page) < asked:
                return
            page, asked = self.read(id, page[-1].id), PAGE

    def bytes_of(self, id: str, attempt: int, *types: str, begun: list[Entry] | None = None) -> list[bytes]:
        """The exact bytes one attempt wrote, for each of the types (``stdout``, ``stderr``)."""
        parts: dict[str, list[bytes]] = {type: [] for type in types}
        for entry in self.entries(id, begun):
            if entry.attempt == attempt and entry.type in parts:
                parts[entry.type].append(entry.data)
        return [b"".join(parts[type]) for type in types]


def start_after(id: str) -> str:
    """Where a range begins that follows the entry of that id (``-``: from the start)."""
    return "-" if id == "-" else f"({id}"


def entry_of(row: tuple[bytes, dict[bytes, bytes]]) -> Entry:
    """What Redis gives for an entry, as one of ours."""
    id, fields = row
    source = fields.get(b"s", b"").decode()
    return Entry(id.decode(), fields[b"t"].decode(), fields[b"d"], int(fields[b"a"]), source)
