"""The stream of one execution: state changes, output, results and security events, in order of time.

A Redis stream entry has ``t`` (type), ``d`` (data) and ``a`` (attempt). Output of an attempt lost to a platform fault
stays in the stream for live readers, and is not part of the result. A security event also has ``s`` (source), and is in
the logs of :mod:`orchestrator.store.security` too.

A ``tool_call`` with large arguments has ``f`` too; ``d`` is its data without the arguments, and the call's hash has the
complete data while the call is open.

Redis keeps only the beginning of each attempt's output. The rest is in a file of the blob directory for each type; its
entries have ``f`` (offset and length) instead of ``d``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.errors import NotFound
from orchestrator.models.stream import Entry
from orchestrator.states import State
from orchestrator.store import keys
from orchestrator.store.connection import StoreConnection
from orchestrator.store.content.blobs import Blobs
from orchestrator.store.steps import SECURITY, NewEntry, Step, Steps

PAGE = 256
BEGINNING = 32  # entries that are read together with a record


class Output:
    """Appends to and reads executions' streams. Thread-safe."""

    def __init__(self, connection: StoreConnection, steps: Steps, blobs: Blobs) -> None:
        self._redis: Any = connection
        self._steps = steps
        self._blobs = blobs

    def append(self, id: str, attempt: int, entries: Sequence[NewEntry], token: str | None = None) -> bool:
        """Append entries for an attempt; ``False`` if it no longer owns the execution.

        Security events are accepted after the attempt's end; output is refused then, since it was reported as complete.
        """
        late = all(kind == SECURITY for _, _, kind in entries)
        sources = () if late else (State.STARTING, State.RUNNING)
        return self._steps.take(Step(id, attempt, sources=sources, entries=entries, token=token))

    def read(self, id: str, after: str = "-", count: int = PAGE) -> list[Entry]:
        """Up to ``count`` entries after the entry id ``after`` (``-``: from the start)."""
        return [entry_of(row) for row in self._redis.xrange(keys.stream(id), start_after(after), "+", count)]

    def entries(self, id: str, begun: list[Entry] | None = None) -> Iterator[Entry]:
        """Every entry, page by page; ``begun`` are the entries returned by :meth:`Records.read`."""
        page, asked = (self.read(id), PAGE) if begun is None else (begun, BEGINNING)
        while True:
            yield from page
            if len(page) < asked:
                return
            page, asked = self.read(id, page[-1].id), PAGE

    def filled(self, id: str, entries: list[Entry]) -> list[Entry]:
        """Entries with their data, from Redis or the file; lost data is empty."""
        return [self._filled(id, entry) if entry.span else entry for entry in entries]

    def bytes_of(
        self, id: str, attempt: int, *types: str, begun: list[Entry] | None = None, ended: bool = False
    ) -> list[bytes]:
        """The exact bytes one attempt wrote, for each of the types (``stdout``, ``stderr``, ``result``).

        Raises :class:`NotFound` if the ``ended`` execution is deleted during the call, or without the file of its
        output.
        """
        parts: dict[str, list[bytes]] = {type: [] for type in types}
        spans: dict[str, list[tuple[int, int]]] = {type: [] for type in types}
        done = False
        for entry in self.entries(id, begun):
            done = done or entry.type == "done"
            if entry.attempt != attempt or entry.type not in parts:
                continue
            if entry.span is None:
                parts[entry.type].append(entry.data)
            else:
                _join(spans[entry.type], entry.span)
        if ended and not done:
            raise NotFound(f"There is no execution {id!r}.")
        for type in types:
            parts[type] += [self._blobs.read_output(id, attempt, file_of(type), *span) for span in spans[type]]
        return [b"".join(parts[type]) for type in types]

    def _filled(self, id: str, entry: Entry) -> Entry:
        offset, length = entry.span or (0, 0)
        if entry.type == "tool_call":  # the call's hash has the arguments until the call's end
            event = self._redis.hget(keys.tool_call(call_id_of(entry)), "arguments")
            return entry if event is None else entry._replace(data=event)
        try:
            return entry._replace(data=self._blobs.read_output(id, entry.attempt, file_of(entry.type), offset, length))
        except NotFound:
            return entry


def call_id_of(entry: Entry) -> str:
    """The id of the call that a ``tool_call`` entry reports; empty for an entry that no worker writes."""
    try:
        return str(json.loads(entry.data)["call_id"])
    except (ValueError, KeyError, TypeError):
        return ""


def file_of(type: str) -> str:
    """The name of the file in which entries of a type continue. A result's line of JSON is one entry."""
    return "bundles" if type == "result" else type


def _join(spans: list[tuple[int, int]], span: tuple[int, int]) -> None:
    """Add a span, merged with an adjacent last span, so that a file is read in one piece."""
    if spans and sum(spans[-1]) == span[0]:
        span = (spans[-1][0], spans.pop()[1] + span[1])
    spans.append(span)


def start_after(id: str) -> str:
    """The start of a range after the entry of that id (``-``: from the start)."""
    return "-" if id == "-" else f"({id}"


def entry_of(row: tuple[bytes, dict[bytes, bytes]]) -> Entry:
    """An entry from Redis's answer."""
    id, fields = row
    source = fields.get(b"s", b"").decode()
    span = None
    if b"f" in fields:
        offset, length = (int(number) for number in fields[b"f"].split())
        span = offset, length
    return Entry(id.decode(), fields[b"t"].decode(), fields.get(b"d", b""), int(fields[b"a"]), source, span)
