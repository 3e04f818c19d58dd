"""Events for clients: CloudEvents 1.0, from an execution's own stream or from the security logs.

The same security event has the same ``id`` and ``source`` in both. https://github.com/cloudevents/spec
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

from orchestrator.errors import ValidationFailed
from orchestrator.identity import Principal
from orchestrator.identity.authorization import reach
from orchestrator.models import SECURITY_KINDS, CloudEvent, Execution, SecurityKind
from orchestrator.models.stream import START, Entry, order
from orchestrator.queries import cursors
from orchestrator.store import keys
from orchestrator.store.security import LogEntry, LogPage, SecurityLog

SECURITY_TYPE = "dev.mayfly.security."
EXECUTION_TYPE = "dev.mayfly.execution."
RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
POSITION = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)
MAX_MILLISECONDS = 2**62  # far below the bound of Redis, and above every valid year


class SecurityQuery(NamedTuple):
    """A query of the security logs; ``tenant`` is ``None`` for the installation's log."""

    tenant: str | None
    kind: SecurityKind | None
    since: float | None
    after: str

    @property
    def wakes_by(self) -> str:
        """The name under which waiting requests are woken when the log grows."""
        return keys.SECURITY_WAKE if self.tenant is None else keys.tenant_security_wake(self.tenant)

    def next(self, log: SecurityLog, count: int) -> LogPage:
        """The next entries, oldest first."""
        return log.read(tenant=self.tenant, after=self.after, since=self.since, kind=self.kind, count=count)

    def cursor(self, page: LogPage) -> str:
        """The cursor behind a page, which stays valid until the next event."""
        return cursors.closed(_list_id(self.tenant), page.position)


def security_query(principal: Principal, type: str | None, since: str | None, cursor: str | None) -> SecurityQuery:
    """A request's parameters, checked: operators (``fleet:read``) see every tenant's events, others their own.

    Raises :class:`ValidationFailed`.
    """
    tenant = reach(principal, "security.read")
    after = START if cursor is None else cursors.opened(cursor, _list_id(tenant), stream_position)
    return SecurityQuery(
        tenant, None if type is None else kind_of(type), None if since is None else seconds_of(since), after
    )


def kind_of(type: str) -> SecurityKind:
    """The kind of a ``type`` parameter: a kind or a CloudEvents type. Raises :class:`ValidationFailed`."""
    kind = type.removeprefix(SECURITY_TYPE)
    if kind not in SECURITY_KINDS:
        raise ValidationFailed([("type", f"is none of {', '.join(SECURITY_KINDS)}")], "unknown_event_type")
    return kind


def seconds_of(since: str) -> float:
    """RFC 3339 as seconds since the epoch. Raises :class:`ValidationFailed`."""
    try:
        if RFC3339.fullmatch(since):
            return datetime.fromisoformat(since.upper()).timestamp()
    except (ValueError, OverflowError):
        pass
    message = "is no time like 2026-01-31T12:00:00Z; in an address the + of an offset is written %2B"
    raise ValidationFailed([("since", message)], "invalid_since")


def of_log(entry: LogEntry) -> CloudEvent:
    """The event of an entry of a security log."""
    # An event that is also on an execution's stream carries the id and the time of that entry.
    position = entry.id.rpartition(":")[2] if ":" in entry.id else entry.position
    return _security(entry.id, position, entry.source, entry.execution, entry.tenant, entry.environment, entry.event)


def of_execution(execution: Execution, entries: Iterable[Entry]) -> list[CloudEvent]:
    """The events of an execution, in order: changes of its state, and security events."""
    return [_of_entry(execution, entry) for entry in entries if entry.type in ("state", "security")]


def _of_entry(execution: Execution, entry: Entry) -> CloudEvent:
    id = f"{execution.id}:{entry.id}"
    if entry.type == "security":
        event = json.loads(entry.data)
        return _security(id, entry.id, entry.source, execution.id, execution.tenant, execution.environment, event)
    state = entry.data.decode()
    return CloudEvent(
        specversion="1.0",
        id=id,
        source="/mayfly/executions",
        type=EXECUTION_TYPE + state,
        subject=execution.id,
        time=_time(entry.id),
        datacontenttype="application/json",
        tenant=execution.tenant,
        environment=execution.environment,
        data={"state": state, "attempt": entry.attempt},
    )


def _security(
    id: str,
    position: str,
    source: str,
    execution: str | None,
    tenant: str | None,
    environment: str | None,
    event: dict[str, Any],
) -> CloudEvent:
    return CloudEvent(
        specversion="1.0",
        id=id,
        source=f"/mayfly/{quote(source.replace(':', '/', 1))}",
        type=SECURITY_TYPE + event["kind"],
        subject=execution,
        time=_time(position),
        datacontenttype="application/json",
        tenant=tenant,
        environment=environment,
        data=event,
    )


def _time(position: str) -> datetime:
    return datetime.fromtimestamp(int(position.partition("-")[0]) / 1000, UTC)


def _list_id(tenant: str | None) -> str:
    return cursors.list_id("security", tenant)


def stream_position(position: str) -> str:
    """A position that Redis accepts. Raises ``ValueError``."""
    if POSITION.fullmatch(position):
        milliseconds, number = order(position)
        if milliseconds < MAX_MILLISECONDS and number < 2**64:
            return position
    raise ValueError
