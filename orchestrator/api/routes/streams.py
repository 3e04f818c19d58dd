"""The live stream of one execution, as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

Who follows is registered first and reads then, so nothing falls between. A stream begins with one read, of the record
and of the first entries; after that it reads when it is woken, and sends small events together. The framework's own
way would send each event by itself, through three tasks.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from orchestrator.api.dependencies import Parts, PartsIn, Reader
from orchestrator.api.wakeups import Listener
from orchestrator.errors import NotFound, ValidationFailed
from orchestrator.states import TERMINAL, State
from orchestrator.store.output import BEGINNING, PAGE, Entry

KEEPALIVE_SECONDS = 15.0
PIECE_BYTES = 64 * 1024
KEPT_BYTES = 256 * 1024  # of output, while a reader takes it
UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the latter for nginx
STREAM_ID = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)  # shorter than the largest number Redis takes
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
    """Of a stream that is followed: who is woken by what comes, the first entries, and whether that is all."""

    listener: Listener
    after: str
    entries: list[Entry]
    over: bool


async def beginning(
    id: str, parts: PartsIn, caller: Reader, last_event_id: Annotated[str | None, Header()] = None
) -> AsyncIterator[Beginning]:
    """What a stream begins with, and its place among the tenant's streams; errors are answered before it begins.

    Raises :class:`NotFound` and :class:`TooManyStreams`.
    """
    if last_event_id is not None and not STREAM_ID.fullmatch(last_event_id):
        raise ValidationFailed([("Last-Event-ID", "is not an id of this stream")], "invalid_event_id")
    after = last_event_id or "-"
    with parts.followers.one(caller.tenant):
        async with parts.wakeups.changes(id) as listener:
            read = partial(parts.service.store.records.read, id, caller.tenant, after)
            execution, entries = await parts.threads.run(caller.tenant, read)
            yield Beginning(listener, after, entries, State(execution.state) in TERMINAL)


@router.get("/executions/{id}/stream", response_class=Response, responses=EVENTS)
async def stream(id: str, parts: PartsIn, caller: Reader, begun: Annotated[Beginning, Depends(beginning)]) -> Response:
    """Everything as it happens: ``state``, ``stdout``, ``stderr``, ``security``, ``done``; resumes by Last-Event-ID."""
    return StreamingResponse(follow(parts, caller.tenant, id, begun), 200, UNBUFFERED, "text/event-stream")


async def follow(parts: Parts, tenant: str, id: str, begun: Beginning) -> AsyncIterator[bytes]:
    """Server-sent events of one execution, until it has ended.

    One that is over has got its last entries by then.
    """
    after, asked, over = begun.after, BEGINNING, begun.over
    found = list(begun.entries)
    begun.entries.clear()
    while True:
        entries = few(found)
        all_there_is = len(entries) == len(found) < asked
        asked = max(1, len(entries)) if len(entries) < len(found) else min(2 * asked, PAGE)
        if any(entry.span for entry in entries):
            entries = await parts.threads.run(tenant, partial(parts.service.store.output.filled, id, entries))
        del found  # what is beyond is read again, rather than kept while the reader is slow
        for piece in pieces(until_done(entries)):
            yield piece
        if any(entry.type == "done" for entry in entries):
            return
        after = entries[-1].id if entries else after
        if all_there_is:
            if over or parts.wakeups.hurried:
                return
            if not await begun.listener.wait(KEEPALIVE_SECONDS):
                yield KEEPALIVE_COMMENT
                over = await _over(parts, id)
        found = await parts.threads.run(tenant, partial(parts.service.store.output.read, id, after, asked))


def few(entries: Sequence[Entry]) -> list[Entry]:
    """The first of them, at least one, that have no more than :data:`KEPT_BYTES` together."""
    size = 0
    for position, entry in enumerate(entries):
        size += entry.span[1] if entry.span else len(entry.data)
        if size > KEPT_BYTES:
            return list(entries[: max(1, position)])
    return list(entries)


def until_done(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Those up to the last that a stream has; security events may follow it, which are told elsewhere."""
    for entry in entries:
        yield entry
        if entry.type == "done":
            return


def pieces(entries: Iterable[Entry]) -> Iterator[bytes]:
    """They as events, many small ones at a time, and of large ones no more than one is sent at once."""
    piece = b""
    for entry in entries:
        piece += sse(entry)
        if len(piece) >= PIECE_BYTES:
            yield piece
            piece = b""
    if piece:
        yield piece


def sse(entry: Entry) -> bytes:
    """One stream entry as an event. Output that is not UTF-8 also comes as base64."""
    data: dict[str, Any]
    if entry.type in ("stdout", "stderr"):
        try:
            data = {"text": entry.data.decode()}
        except UnicodeDecodeError:
            text = entry.data.decode(errors="replace")
            data = {"text": text, "base64": base64.b64encode(entry.data).decode()}
    elif entry.type == "security":
        return format_sse_event(data_str=entry.data.decode(), event=entry.type, id=entry.id)
    else:
        data = {"state": entry.data.decode(), "attempt": entry.attempt}
    return format_sse_event(data_str=json.dumps(data), event=entry.type, id=entry.id)


async def _over(parts: Parts, id: str) -> bool:
    """Whether nothing more can come: the execution ended before the place where the reader resumed, or is gone."""
    try:
        execution = await run_in_threadpool(parts.service.store.records.get, id, None)
    except NotFound:
        return True
    return State(execution.state) in TERMINAL
