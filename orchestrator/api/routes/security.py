"""The route that reads the security logs, and waits for new events."""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from orchestrator.api.dependencies import KEY_SECONDS, Caller, PartsIn, Rechecks
from orchestrator.api.routes.executions import Wait
from orchestrator.models import CloudEvent, Frozen
from orchestrator.queries.events import of_log, security_query

router = APIRouter(prefix="/api/v1", tags=["security"])
Since = Annotated[str | None, Query(max_length=64, json_schema_extra={"format": "date-time"})]


class SecurityEventList(Frozen):
    """Security events, oldest first. ``next_cursor`` is null at the end of the list; ``follow_cursor`` always
    continues.
    """

    items: list[CloudEvent]
    next_cursor: str | None
    follow_cursor: str


@router.get("/security-events", response_model=SecurityEventList)
async def security_events(
    request: Request,
    parts: PartsIn,
    caller: Caller,
    type: Annotated[str | None, Query(max_length=64)] = None,
    since: Since = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
    wait: Wait = 0.0,
) -> Response:
    """List the tenant's security events, or those of all tenants for operators. With ``wait`` an answer without events
    is delayed until an event occurs.

    No event is lost or repeated between a page and the page at its cursor.
    """
    query = security_query(caller, type, since, cursor)
    deadline, rechecks = time.monotonic() + wait, Rechecks(parts, caller, request.headers.get("authorization"))
    counted = parts.followers.counted(caller.tenant) if wait else nullcontext()
    with counted:
        async with parts.wakeups.changes(query.wakes_by) as listener:
            while True:
                left = deadline - time.monotonic()
                await rechecks.if_due()
                page = await parts.threads.run(caller.tenant, partial(parts.results.security_events, query, limit))
                if page.items or page.more or left <= 0 or parts.wakeups.draining:
                    break
                query = query._replace(after=page.position)
                await listener.wait(min(left, KEY_SECONDS))
    lead = query.cursor(page)
    listed = SecurityEventList(
        items=[of_log(entry) for entry in page.items], next_cursor=lead if page.more else None, follow_cursor=lead
    )
    return Response(listed.model_dump_json(), media_type="application/json")
