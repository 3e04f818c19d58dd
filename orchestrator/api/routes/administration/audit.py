"""Routes of the audit log: its entries, and the seals that prove that no entry is missing."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query

from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.audit import AuditEntry
from orchestrator.audit.chain import Seal
from orchestrator.models import Frozen
from orchestrator.models.stream import START
from orchestrator.queries.audit import audit_query, position_of, time_of

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])
Cursor = Annotated[str | None, Query(max_length=64)]
MOST_ENTRIES = 1000


class AuditItem(AuditEntry):
    """An entry, with its position in the log and its time. ``stored``: the bytes that the chain covers, for callers
    with the scope `fleet:read`.
    """

    position: str
    time: datetime
    stored: str | None = None


class AuditList(Frozen):
    """Entries, oldest first. There is no ``next_cursor`` at the end of the log."""

    items: list[AuditItem]
    next_cursor: str | None = None


class SealList(Frozen):
    """Seals, oldest first, the base at which the chain begins, and the public key (Ed25519, base64)."""

    items: list[Seal]
    base: Seal | None
    public_key: str
    next_cursor: str | None


@router.get("", response_model=AuditList, response_model_exclude_none=True)
async def audit_entries(
    parts: PartsIn,
    caller: Caller,
    action: Annotated[str | None, Query(max_length=64)] = None,
    principal: Annotated[str | None, Query(max_length=512)] = None,
    since: Annotated[str | None, Query(max_length=64, json_schema_extra={"format": "date-time"})] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 50,
    cursor: Cursor = None,
) -> AuditList:
    """List entries of the tenant's principals and resources; with the scope `fleet:read`, entries of all tenants.

    A page may be empty although more entries follow: ``next_cursor`` continues the list.
    """
    query = audit_query(caller, action, principal, since, cursor)
    page = await parts.threads.run(caller.tenant, partial(parts.audit.read, query.wanted, query.after, limit))
    items = [
        AuditItem(
            **record.entry.model_dump(),
            position=record.position,
            time=time_of(record.position),
            stored=record.stored.decode(errors="replace") if query.tenant is None else None,
        )
        for record in page.items
    ]
    return AuditList(items=items, next_cursor=page.position if page.more else None)


@router.get("/seals", response_model=SealList)
async def audit_seals(
    parts: PartsIn, caller: Caller, limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 1000, cursor: Cursor = None
) -> SealList:
    """List the seals of the chain over all entries."""
    after = START if cursor is None else position_of(cursor)

    def read() -> SealList:
        items = parts.audit.seals(after, limit)
        more = items[-1].position if len(items) == limit else None
        return SealList(items=items, base=parts.audit.base(), public_key=parts.audit.public_key, next_cursor=more)

    return await parts.threads.run(caller.tenant, read)
