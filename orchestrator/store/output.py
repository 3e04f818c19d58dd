"""The stream of one execution: state changes, output and security events, in the order they happened.

A Redis stream entry has ``t`` (type), ``d`` (data) and ``a`` (attempt). Output of an attempt that was lost to a
platform fault stays in the stream for those who saw it live, and does not count for the result. A security event also
has ``s`` (source), and stands in the logs of :mod:`orchestrator.store.security` too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.security import LogBounds, bounded, encoded, report

PAGE = 256


class Entry(NamedTuple):
    """One entry; ``id`` is Redis's and orders them."""

    id: str
    type: str
    data: bytes
    attempt: int
    source: str = ""  # who wrote a security event


class Output:
    """Appends to and reads executions' streams. Thread-safe."""

    def __init__(self, connection: StoreConnection, bounds: LogBounds) -> None:
        self._redis: Any = connection
        self._bounds = bounds
        self._append = connection.register_script(scripts.APPEND)

    def append(self, id: str, attempt: int, entries: list[tuple[str, bytes, bool]]) -> bool:
        """Append (type, data, is security event) triples for an attempt; ``False`` if it is not the owner any more.

        A security event is the JSON of ``{"kind", "detail", …}``. It comes into the security logs in the same step,
        and is counted and logged here, so nobody else needs to.
        """
        args: list[str | bytes | int] = [id, attempt, keys.WAKE + id, *self._bounds]
        events = []
        for type, data, security in entries:
            if security:
                event = bounded(json.loads(data))
                events.append(event)
                data = encoded(event)
            args += [type, data, int(security)]
        if not self._append(keys=[keys.execution(id), keys.stream(id)], args=args):
            return False
        for event in events:
            report(event, execution=id, attempt=attempt)
        return True

    def read(self, id: str, after: str = "-", count: int = PAGE) -> list[Entry]:
        """Up to ``count`` entries after the entry id ``after`` (``-``: from the start)."""
        start = "-" if after == "-" else f"({after}"
        return [_entry(row) for row in self._redis.xrange(keys.stream(id), start, "+", count)]

    def entries(self, id: str) -> Iterator[Entry]:
        """Every entry there is, page by page."""
        after = "-"
        while page := self.read(id, after):
            yield from page
            after = page[-1].id

    def bytes_of(self, id: str, attempt: int, *types: str) -> list[bytes]:
        """The exact bytes one attempt wrote, for each of the types (``stdout``, ``stderr``)."""
        parts: dict[str, list[bytes]] = {type: [] for type in types}
        for entry in self.entries(id):
            if entry.attempt == attempt and entry.type in parts:
                parts[entry.type].append(entry.data)
        return [b"".join(parts[type]) for type in types]


def _entry(row: tuple[bytes, dict[bytes, bytes]]) -> Entry:
    id, fields = row
    source = fields.get(b"s", b"").decode()
    return Entry(id.decode(), fields[b"t"].decode(), fields[b"d"], int(fields[b"a"]), source)
