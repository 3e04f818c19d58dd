"""Queries of the audit log: the entries that a principal may see, and the parameters of a list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from orchestrator.audit import AuditEntry
from orchestrator.errors import ValidationFailed
from orchestrator.identity import Principal
from orchestrator.identity.authorization import reach
from orchestrator.models.stream import START, just_before, order
from orchestrator.queries.events import seconds_of, stream_position


class AuditQuery(NamedTuple):
    """Entries to list: of ``tenant`` (``None``: of every tenant), behind the position ``after``."""

    tenant: str | None
    action: str | None
    principal: str | None
    after: str

    def wanted(self, entry: AuditEntry) -> bool:
        """Whether an entry matches the query, and the principal may see it.

        A tenant sees all actions on its resources, and its principals' actions on resources of no tenant. Actions on
        another tenant's resource, such as those of administrators of the installation, are that tenant's. A refused
        request for another tenant's resource is visible to neither tenant: the caller would learn that the resource
        exists, and the owner would learn about the caller.
        """
        if self.action not in (None, entry.action) or self.principal not in (None, entry.principal):
            return False
        if self.tenant is None:
            return True
        if entry.outcome == "refused" or entry.owner is None:
            return entry.tenant == self.tenant and entry.owner in (None, self.tenant)
        return entry.owner == self.tenant


def audit_query(
    caller: Principal, action: str | None, principal: str | None, since: str | None, cursor: str | None
) -> AuditQuery:
    """A request's parameters, checked. Raises :class:`ValidationFailed`."""
    after = START if since is None else just_before(seconds_of(since))
    if cursor is not None:
        after = max(after, position_of(cursor), key=order)
    return AuditQuery(reach(caller, "audit.read"), action, principal, after)


def position_of(cursor: str) -> str:
    """The position of a list's cursor. Raises :class:`ValidationFailed`."""
    try:
        return stream_position(cursor)
    except ValueError as error:
        mistake = ("cursor", "is no position in this log; take next_cursor of the page before")
        raise ValidationFailed([mistake], "invalid_cursor") from error


def time_of(position: str) -> datetime:
    """The time at which the entry at a position was appended."""
    return datetime.fromtimestamp(order(position)[0] / 1000, UTC)
