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
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from orchestrator.api.dependencies import DirectRoute, Parts, Rechecks, parts_of, principal
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
PARAMETERS = [
    {"name": "id", "in": "path", "required": True, "schema": {**TEXT, "title": "Id"}},
    {
        "name": "last-event-id",
        "in": "header",
        "required": False,
        "schema": {"anyOf": [TEXT, {"type": "null"}], "title": "Last-Event-Id"},
    },
]
router = APIRouter(prefix="/api/v1", tags=["results"], route_class=DirectRoute)


@dataclass(frozen=True)
class Beginning:
    """A live stream at its beginning: the listener for its wake-ups, and the reader of its entries."""

    listener: Listener
    follower: Follower


class LiveStream(StreamingResponse):
    """The answer of a live stream, whose place and subscription are released when the answer ends."""

    def __init__(self, events: AsyncIterator[bytes], held: AsyncExitStack) -> None:
        super().__init__(events, 200, UNBUFFERED, "text/event-stream")
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


@router.get(
    "/executions/{id}/stream",
    response_class=Response,
    responses=EVENTS,
    openapi_extra={"parameters": PARAMETERS},
)
async def stream(request: Request) -> Response:
    """Stream the events of an execution, live: ``state``, ``stdout``, ``stderr``, ``result``, ``tool_call``,
    ``security``, ``done``. A client resumes with Last-Event-ID. The stream ends when the key is revoked.
    """
    # A stream is counted among its tenant's streams. Errors are answered before it begins.
    parts = parts_of(request)
    caller = await principal(request, parts)
    id, last_event_id = request.path_params["id"], request.headers.get("last-event-id")
    if last_event_id is not None and not STREAM_ID.fullmatch(last_event_id):
        raise ValidationFailed([("Last-Event-ID", "is not an id of this stream")], "invalid_event_id")
    async with AsyncExitStack() as held:
        held.enter_context(parts.followers.counted(caller.tenant))
        listener = await held.enter_async_context(parts.wakeups.changes(id))
        read = partial(parts.results.follow, caller, id, last_event_id or "-")
        begun = Beginning(listener, await parts.threads.run(caller.tenant, read))
        rechecks = Rechecks(parts, caller, request.headers.get("authorization"))
        return LiveStream(follow(parts, caller.tenant, begun, rechecks), held.pop_all())


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
