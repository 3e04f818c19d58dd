"""Routes of results: exact output, artifacts and events; and the upload of blobs."""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from functools import partial
from typing import IO, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.concurrency import iterate_in_threadpool
from starlette.types import Receive, Scope, Send

from orchestrator.api.bodies import BINARY, bytes_body, refuse_encoded
from orchestrator.api.dependencies import Caller, PartsIn, ResultsIn
from orchestrator.api.door.uploads import PIECE_BYTES, is_small, pieces
from orchestrator.api.problems import answer
from orchestrator.errors import RangeNotSatisfiable
from orchestrator.models import Artifact, CloudEvent, Frozen
from orchestrator.models.results import Content

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
BYTES: dict[int | str, dict[str, Any]] = {
    200: {"description": "All bytes.", "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The bytes of the requested range.", "content": {BINARY: {}}},
}
RangeHeader = Annotated[str | None, Header()]
router = APIRouter(prefix="/api/v1", tags=["results"])


class OpenedFile(FileResponse):
    """An open file, which is sent whole even if it is deleted meanwhile."""

    def __init__(self, file: IO[bytes], headers: dict[str, str]) -> None:
        self._file = file
        descriptor = file.fileno()
        super().__init__(f"/proc/self/fd/{descriptor}", headers=headers, stat_result=os.fstat(descriptor))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


class ArtifactList(Frozen):
    """Artifacts of one execution."""

    items: list[Artifact]


class EventList(Frozen):
    """Events of one execution, oldest first."""

    items: list[CloudEvent]


class BlobAnswer(Frozen):
    """An uploaded blob."""

    blob: str
    size: int


@router.get("/executions/{id}/stdout", response_class=Response, responses=BYTES)
async def stdout(id: str, request: Request, parts: PartsIn, caller: Caller, range: RangeHeader = None) -> Response:
    """Download the exact bytes of standard output."""
    read = partial(parts.results.output, caller, id, "stdout")
    return ranged(request, await parts.traffic.readings.run(caller.tenant, read), range)


@router.get("/executions/{id}/stderr", response_class=Response, responses=BYTES)
async def stderr(id: str, request: Request, parts: PartsIn, caller: Caller, range: RangeHeader = None) -> Response:
    """Download the exact bytes of standard error."""
    read = partial(parts.results.output, caller, id, "stderr")
    return ranged(request, await parts.traffic.readings.run(caller.tenant, read), range)


@router.get("/executions/{id}/artifacts", response_model=ArtifactList)
def artifacts(id: str, results: ResultsIn, caller: Caller) -> Response:
    """List the artifacts of an execution."""
    listed = ArtifactList(items=results.artifacts(caller, id))
    return Response(listed.model_dump_json(), media_type="application/json")


@router.get("/executions/{id}/artifacts/{path:path}", response_class=FileResponse, responses=BYTES)
def artifact(
    id: str, path: str, request: Request, results: ResultsIn, caller: Caller, range: RangeHeader = None
) -> Response:
    """Download an artifact, always as an attachment."""
    found, opened = results.artifact(caller, id, path)
    name = quote(found.path.rpartition("/")[2])
    headers = {
        "Content-Type": found.media_type,  # a header, since Starlette's media_type adds "charset=utf-8" to every text
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
    }
    return sent(request, opened(), range, headers)


@router.get("/executions/{id}/events", response_model=EventList)
def events(id: str, results: ResultsIn, caller: Caller) -> Response:
    """List the state changes and security events of an execution, as CloudEvents."""
    listed = EventList(items=results.events(caller, id))
    return Response(listed.model_dump_json(), media_type="application/json")


@router.put("/blobs", status_code=201, response_model=BlobAnswer, openapi_extra=bytes_body(required=True))
async def put_blob(request: Request, parts: PartsIn, caller: Caller) -> Response:
    """Upload a blob, which later submissions name as an input by its digest."""
    refuse_encoded(request)
    with nullcontext() if is_small(request) else parts.traffic.uploads.counted(caller.tenant):
        writer = await run_in_threadpool(parts.service.blob_writer, caller.tenant)
        try:
            async for chunks in pieces(request, PIECE_BYTES):
                await run_in_threadpool(writer.write, b"".join(chunks))
            reference, size = await run_in_threadpool(writer.commit)
        finally:
            writer.close()
    return JSONResponse({"blob": reference, "size": size}, 201)


def sent(request: Request, content: Content, header: str | None, headers: dict[str, str]) -> Response:
    """The answer with a stored content, or with the requested range of it."""
    size, span = content.size, span_of(header, content.size)
    if span is not None and span[0] >= span[1]:
        content.close()
        return outside(request, size)
    if content.file is not None:
        if span is None:  # the header is removed: Starlette refuses unreadable ranges in plain text
            request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
        return OpenedFile(content.file, headers)
    begin, end = span or (0, size)
    headers = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(end - begin)}
    if span is not None:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    chunks = iterate_in_threadpool(content.chunks(begin, end))
    return StreamingResponse(chunks, 200 if span is None else 206, headers)


def ranged(request: Request, data: bytes, header: str | None) -> Response:
    """The answer with all bytes, or with the requested range."""
    common = {"Accept-Ranges": "bytes"}
    span = span_of(header, len(data))
    if span is None:
        return Response(data, headers=common, media_type=BINARY)
    begin, end = span
    if begin >= end:
        return outside(request, len(data))
    headers = {**common, "Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}
    return Response(data[begin:end], 206, headers, BINARY)


def span_of(header: str | None, size: int) -> tuple[int, int] | None:
    """The part of ``size`` bytes that a ``Range`` header requests, as a half-open interval that may be empty.

    ``None`` without a range, or with a range that servers ignore (RFC 9110): malformed, backwards, in several parts.
    """
    asked = RANGE.fullmatch((header or "").strip())
    if asked is None or asked.groups() == ("", ""):
        return None
    first, last = asked.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def outside(request: Request, size: int) -> Response:
    """The answer to a range outside the content."""
    error = RangeNotSatisfiable(f"The content has {size} bytes; the range lies outside.")
    return answer(request, error, {"Content-Range": f"bytes */{size}"})
