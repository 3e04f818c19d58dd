"""The route that receives a client's answers to calls of the tools that the client implements."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from orchestrator.api.bodies import JsonBody, body_of
from orchestrator.api.dependencies import Caller, PartsIn
from orchestrator.models.tools import CallerAnswer

router = APIRouter(prefix="/api/v1/executions", tags=["executions"])
ANSWER = JsonBody(CallerAnswer)


@router.post("/{id}/tool-results/{call_id}", status_code=204, openapi_extra=body_of(CallerAnswer))
async def answer_tool_call(id: str, call_id: str, request: Request, parts: PartsIn, caller: Caller) -> Response:
    """Answer a ``tool_call`` event with the tool's result, or with an error that the program can catch.

    The same answer may be repeated.
    """
    async with ANSWER.read(request, caller) as (answer, _):
        settle = partial(parts.tool_results.answer, caller, id, call_id, answer)
        await parts.threads.run(caller.tenant, settle)
        del answer, settle
    return Response(status_code=204)
