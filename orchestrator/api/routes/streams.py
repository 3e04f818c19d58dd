"""The live stream of one execution, as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

A follower registers before it reads, so no event is missed. A stream begins with one read, of the record and of the
first entries; afterwards it reads on each wake-up, and sends small events together. The framework's own streaming would
send each event by itself, through three tasks.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from orchestrator.api.dependencies import Caller, Parts, PartsIn, Rechecks
from orchestrator.errors import Forbidden, TenantDisabled, Unauthenticated, ValidationFailed
from orchestrator.models.stream import Entry
from orchestrator.queries.following import Follower
from orchestrator.queries.wakeups import Listener

KEEPALIVE_SECONDS = 15.0
PIECE_BYTES = 64 * 1024
UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the latter for nginx
STREAM_ID = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)  # within the numbers that Redis accepts
TEXT = {"type": "string"}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events.",
        "content": {
            "text/event-stream": {
                "itemSchema": {"type": "object", "properties": {"data": TEXT, "event": TEXT, "id": TEXT}}
            }
        },
    },
}
router = APIRouter(prefix="/api/v1", tags=["results"])


@dataclass(frozen=True)
class Beginning:
    """A live stream at its beginning: the listener for its wake-ups, and the reader of its entries."""

    listener: Listener
    follower: Follower


async def beginning(
    id: str, parts: PartsIn, caller: Caller, last_event_id: Annotated[str | None, Header()] = None
) -> AsyncIterator[Beginning]:
    """Begin a stream, counted among the tenant's streams. Errors are answered before the stream begins.

    Raises :class:`NotFound` and :class:`TooManyStreams`.
    """
    if last_event_id is not None and not STREAM_ID.fullmatch(last_event_id):
        raise ValidationFailed([("Last-Event-ID", "is not an id of this stream")], "invalid_event_id")
    with parts.followers.counted(caller.tenant):
        async with parts.wakeups.changes(id) as listener:
            read = partial(parts.results.follow, caller, id, last_event_id or "-")
            yield Beginning(listener, await parts.threads.run(caller.tenant, read))


@router.get("/executions/{id}/stream", response_class=Response, responses=EVENTS)
async def stream(
    id: str, request: Request, parts: PartsIn, caller: Caller, begun: Annotated[Beginning, Depends(beginning)]
) -> Response:
    """Stream the events of an execution, live: ``state``, ``stdout``, ``stderr``, ``result``, ``tool_call``,
    ``security``, ``done``. A client resumes with Last-Event-ID. The stream ends when the key is revoked.
    """
    rechecks = Rechecks(parts, caller, request.headers.get("authorization"))
    return StreamingResponse(follow(parts, caller.tenant, begun, rechecks), 200, UNBUFFERED, "text/event-stream")


async def follow(parts: Parts, tenant: str, begun: Beginning, rechecks: Rechecks) -> AsyncIterator[bytes]:
    """Server-sent events of an execution, until the execution has ended or the caller's key is no longer valid.

    The last entries of an ended execution are sent before the stream ends.
    """
    follower, page = begun.follower, begun.follower.first()
    over = follower.over
    while True:
        entries, is_all = page
        del page
        for piece in pieces(until_done(entries)):
            yield piece
        if any(entry.type == "done" for entry in entries):
            return
        if is_all:
            if over or parts.wakeups.draining:
                return
            if not await begun.listener.wait(KEEPALIVE_SECONDS):
                yield KEEPALIVE_COMMENT
                over = await run_in_threadpool(follower.is_over)
        try:
            await rechecks.if_due()
        except (Unauthenticated, Forbidden, TenantDisabled):
            return
        page = await parts.threads.run(tenant, follower.next)


def until_done(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries up to ``done``; later security events are reported only in the logs."""
    for entry in entries:
        yield entry
        if entry.type == "done":
            return


def pieces(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The entries as events: many small events together, large events one at a time."""
    piece = b""
    for entry in entries:
        piece += sse(entry)
        if len(piece) >= PIECE_BYTES:
            yield piece
            piece = b""
    if piece:
        yield piece


def sse(entry: Entry) -> bytes:
    """One stream entry as an event. Output that is not UTF-8 is also sent as base64."""
    data: dict[str, Any]
    if entry.type in ("stdout", "stderr"):
        try:
            data = {"text": entry.data.decode()}
        except UnicodeDecodeError:
            text = entry.data.decode(errors="replace")
            data = {"text": text, "base64": base64.b64encode(entry.data).decode()}
    elif entry.type in ("security", "result", "tool_call"):
        return format_sse_event(data_str=entry.data.decode().rstrip("\n"), event=entry.type, id=entry.id)
    else:
        data = {"state": entry.data.decode(), "attempt": entry.attempt}
    return format_sse_event(data_str=json.dumps(data), event=entry.type, id=entry.id)
