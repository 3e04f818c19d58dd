"""The security event logs: blocked and attempted actions, kept independent of their executions.

Bounded Redis streams, one for the installation and one for each tenant. An event of an execution is written by
:meth:`orchestrator.store.output.Output.append`, whose script adds it to the execution's stream and to both logs in one
step; other events (wrong keys, weak containers, anomalies) are written by :meth:`SecurityLog.add`. Each event is
counted and logged once. Many events of one tenant push older events, including those of other tenants, out of the
installation's log; the other tenants' own logs, the counters and the log lines stay.

An entry has ``i`` (the event's id), ``t`` (tenant or empty), ``d`` (the event's JSON), ``s`` (source), and if they
apply ``x`` (execution) and ``e`` (environment). Entries are ordered by Redis's ids, which are also the positions of
readers: new entries always follow the readable entries.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import structlog

from orchestrator import metrics
from orchestrator.errors import StoreUnavailable
from orchestrator.models import SECURITY_KINDS, SecurityKind
from orchestrator.models.security import SecurityEvent
from orchestrator.models.stream import START, just_before, order
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.malformed import MALFORMED, report_malformed

PAGE = 500
SCANNED_PAGES = 10
MAX_TEXT = 1000
MAX_ITEMS = 100
MAX_DEPTH = 4
MAX_EVENT_BYTES = 16 * 1024
WINDOW_SECONDS = 60
MAX_ACTORS = 100
log = structlog.get_logger()


class LogBounds(NamedTuple):
    """The approximate bounds of a log: number and age of entries."""

    entries: int
    seconds: int


class LogEntry(NamedTuple):
    """One security event. ``position`` orders the entries of one log, ``id`` is the same in every log."""

    position: str
    id: str
    event: dict[str, Any]
    source: str
    tenant: str | None
    execution: str | None
    environment: str | None

    @property
    def kind(self) -> str:
        return str(self.event["kind"])


class LogPage(NamedTuple):
    """A page of entries; ``more``: whether further entries exist; ``position``: the start of the next page."""

    items: list[LogEntry]
    position: str
    more: bool


class SecurityLog:
    """Writes and reads the logs. Thread-safe."""

    def __init__(self, connection: StoreConnection, bounds: LogBounds) -> None:
        self._redis: Any = connection
        self._bounds = bounds
        self._log = connection.script(scripts.LOG)
        self._count = connection.script(scripts.COUNT)

    def add(
        self,
        event: SecurityEvent,
        *,
        tenant: str | None,
        source: str,
        execution: str | None = None,
        environment: str | None = None,
    ) -> None:
        """Write an event outside of executions' streams; ``execution`` is only a reference.

        ``source`` is ``api``, ``worker:<id>`` or ``janitor``. Only the operators see an event without ``tenant``.
        Raises :class:`StoreUnavailable`; the event is in the log lines then too.
        """
        written = written_form(event)
        row: list[str | bytes] = ["i", secrets.token_hex(16), "d", encoded(written), "s", source]
        for name, value in (("x", execution), ("e", environment)):
            row += [name, value] if value else []
        about = {"source": source, "tenant": tenant, "execution": execution, "environment": environment}
        try:
            self._log(args=[*self._bounds, tenant or "", *row])
        except StoreUnavailable:
            log.warning("security.event", kind=event.kind, data=written, stored=False, **about)
            raise
        report(written, **about)

    def count(self, kind: str, subject: str) -> tuple[str, int]:
        """Count one more event of this kind by ``subject`` in the minute that began with the first.

        Returns ``subject``, or ``""`` if too many sources caused such events in that minute, and the count. For events
        that unauthenticated clients can cause: writing only at :func:`milestones <milestone>` bounds their number.
        """
        found, number = self._count(keys=[keys.SECURITY_COUNTS + kind], args=[subject, MAX_ACTORS, WINDOW_SECONDS])
        return found.decode(), int(number)

    def read(
        self,
        *,
        tenant: str | None,
        after: str = START,
        since: float | None = None,
        kind: SecurityKind | None = None,
        count: int = PAGE,
    ) -> LogPage:
        """Up to ``count`` entries of a tenant's log (``None``: the installation's) after a position, oldest first.

        ``since`` is in seconds since the epoch. One call reads a bounded number of entries, so a page may be empty
        although more entries follow.
        """
        name = keys.SECURITY if tenant is None else keys.tenant_security(tenant)
        kept = time.time() - self._bounds.seconds
        position = max(after, just_before(max(kept, since or 0.0)), key=order)
        found: list[LogEntry] = []
        for _ in range(SCANNED_PAGES):
            rows = self._redis.xrange(name, f"({position}", "+", PAGE)
            for row in rows:
                if len(found) == count:
                    return LogPage(found, position, True)
                position = row[0].decode()
                if (entry := _readable(row)) is None:
                    continue
                if kind is None or entry.kind == kind:
                    found.append(entry)
            if len(rows) < PAGE:
                return LogPage(found, position, False)
        return LogPage(found, position, True)


def milestone(count: int) -> bool:
    """Whether a count is 1, 10, 100 and so on."""
    return str(count).rstrip("0") == "1"


def written_form(event: SecurityEvent) -> dict[str, Any]:
    """The JSON form of an event, for Redis and clients. Only this function makes it."""
    made: dict[str, Any] = {"kind": event.kind, "detail": event.detail}
    if event.attribution is not None:
        made["attribution"] = event.attribution
    for field in fields(event.evidence) if event.evidence is not None else ():
        value = getattr(event.evidence, field.name)
        if value is not None or field.default is not None:
            made[field.name] = value
    if event.count is not None:
        made["count"] = event.count
    return bounded(made)


def bounded(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event of at most :data:`MAX_EVENT_BYTES` that every JSON encoder accepts: long parts are cut, invalid parts
    replaced.
    """
    made: dict[str, Any] = {name: _bounded(value, MAX_DEPTH) for name, value in event.items()}
    if len(encoded(made)) <= MAX_EVENT_BYTES:
        return made
    few: dict[str, Any] = {"kind": made["kind"], "detail": _cut(made["detail"], 400), "shortened": True}
    scalars = [(name, value) for name, value in made.items() if name not in few and not isinstance(value, (list, dict))]
    return few | {name: _cut(value, 100) if isinstance(value, str) else value for name, value in scalars[:6]}


def encoded(event: Mapping[str, Any]) -> bytes:
    """An event's JSON, in ASCII."""
    return json.dumps(event).encode()


def report(event: Mapping[str, Any], **about: Any) -> None:
    """Count and log a written event."""
    metrics.security_events.labels(event["kind"]).inc()
    known = {name: value for name, value in about.items() if value is not None}
    log.warning("security.event", kind=event["kind"], data=event, **known)


def _bounded(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _cut(value, MAX_TEXT)
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if depth and isinstance(value, (list, tuple)):
        return [_bounded(item, depth - 1) for item in value[:MAX_ITEMS]]
    if depth and isinstance(value, dict):
        return {_cut(str(name), MAX_TEXT): _bounded(item, depth - 1) for name, item in list(value.items())[:MAX_ITEMS]}
    return _cut(str(value), MAX_TEXT)


def _cut(text: str, most: int) -> str:
    kept = text if len(text) <= most else f"{text[:most]}…"
    return kept.encode(errors="backslashreplace").decode()  # Mayfly's JSON has no halves of surrogate pairs


def _readable(row: tuple[bytes, dict[bytes, bytes]]) -> LogEntry | None:
    """An entry; ``None`` for malformed data, which is reported."""
    try:
        return _entry(row)
    except MALFORMED as error:
        report_malformed("security log", f"{row[0]!r}: {type(error).__name__}")
        return None


def _entry(row: tuple[bytes, dict[bytes, bytes]]) -> LogEntry:
    position, fields = row
    text = {name.decode(): value.decode() for name, value in fields.items()}
    id, event = text["i"], json.loads(text["d"])
    if ":" in id:
        order(id.rpartition(":")[2])
    if not isinstance(event, dict) or event["kind"] not in SECURITY_KINDS:
        raise ValueError("no security event")
    return LogEntry(position.decode(), id, event, text["s"], text["t"] or None, text.get("x"), text.get("e"))
