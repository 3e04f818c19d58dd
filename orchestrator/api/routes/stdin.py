"""The route that feeds the standard input of an execution while it runs."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from orchestrator.api.bodies import bytes_body
from orchestrator.api.dependencies import PartsIn, Writer
from orchestrator.models import Frozen
from orchestrator.service import CHUNK_BYTES

router = APIRouter(prefix="/api/v1/executions", tags=["executions"])


class StdinAnswer(Frozen):
    """How many bytes of the standard input have arrived, and whether they are all."""

    bytes: int
    ended: bool


@router.post(
    "/{id}/stdin",
    status_code=202,
    response_model=StdinAnswer,
    openapi_extra=bytes_body(required=False),
)
async def append_stdin(
    id: str,
    request: Request,
    parts: PartsIn,
    caller: Writer,
    offset: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    end: bool = False,
) -> Response:
    """Add a chunk to the standard input of an execution that streams it; with ``end`` it is the last.

    ``offset`` is where the chunk begins, so that one sent again is not added twice.
    """
    chunk = await parts.traffic.chunk(request, caller.tenant, CHUNK_BYTES)
    add = partial(parts.service.append_stdin, caller, id, chunk, offset, end)
    received = await parts.threads.run(caller.tenant, add)
    return JSONResponse(received._asdict(), 202)
