"""Routes of transfers: contents that workers without the blob directory fetch and store."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from orchestrator.api.bodies import bytes_body, refuse_encoded
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.api.routes.results import BYTES, RangeHeader, sent
from orchestrator.errors import DigestMismatch

PIECE_BYTES = 2**20
DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]{44}):", re.ASCII)  # RFC 9530
SHA256 = r"^[0-9a-f]{64}$"
router = APIRouter(prefix="/api/v1/transfers", tags=["transfers"])


@router.get("/blobs/{tenant}/{sha256}", response_class=Response, responses=BYTES)
def blob(
    tenant: Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")],
    sha256: Annotated[str, Path(pattern=SHA256)],
    request: Request,
    parts: PartsIn,
    caller: Caller,
    range: RangeHeader = None,
) -> Response:
    """Download a blob of any tenant, for a worker."""
    return sent(request, parts.transfers.blob(tenant, sha256), range, {"Content-Type": "application/octet-stream"})


@router.get("/room", status_code=204)
def room(parts: PartsIn, caller: Caller) -> None:
    """Whether contents can be stored: 503 `blobs_full` or `blobs_unavailable` if not. A worker then takes nothing."""
    parts.transfers.check_room()


@router.put("/files/{id}/{attempt}/{name}", status_code=204, openapi_extra=bytes_body(required=False))
async def put_piece(
    id: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")],
    attempt: Annotated[int, Path(ge=1, le=2**31)],
    name: Annotated[str, Path(pattern=r"^(stdout|stderr|bundles|result|upload-[0-9a-f]{32})$")],
    request: Request,
    parts: PartsIn,
    caller: Caller,
    content_digest: Annotated[str, Header(description="The piece's, as `sha-256=:…:` (RFC 9530).")],
    offset: Annotated[int, Query(ge=0, le=2**40)] = 0,
    sha256: Annotated[str | None, Query(pattern=SHA256, description="The whole file's, with its last piece.")] = None,
) -> Response:
    """Store a piece of at most 1 MiB of an attempt's file, for the worker that has the execution."""
    refuse_encoded(request)
    piece = await parts.traffic.chunk(request, caller.name, PIECE_BYTES)
    announced = DIGEST.fullmatch(content_digest)
    if announced is None or announced[1] != base64.b64encode(hashlib.sha256(piece).digest()).decode():
        raise DigestMismatch()
    await run_in_threadpool(partial(parts.transfers.write, id, attempt, name, offset, piece, sha256))
    return Response(status_code=204)
