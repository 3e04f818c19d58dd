"""The route that receives an execution's standard input while it runs."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from orchestrator.api.bodies import bytes_body
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.models import Frozen
from orchestrator.service import CHUNK_BYTES

router = APIRouter(prefix="/api/v1/executions", tags=["executions"])


class StdinAnswer(Frozen):
    """The number of bytes received so far, and whether the standard input has ended."""

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
    caller: Caller,
    offset: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    end: bool = False,
) -> Response:
    """Append a chunk to the streamed standard input of an execution; ``end`` marks the last chunk.

    ``offset`` is the position of the chunk, so that a repeated chunk is not appended twice.
    """
    chunk = await parts.traffic.chunk(request, caller.tenant, CHUNK_BYTES)
    add = partial(parts.service.append_stdin, caller, id, chunk, offset, end)
    received = await parts.threads.run(caller.tenant, add)
    return JSONResponse(received._asdict(), 202)
