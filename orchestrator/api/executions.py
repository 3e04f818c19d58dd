"""Routes of executions: submit, wait, read, cancel, delete."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import Field, ValidationError

from orchestrator.api.dependencies import Parts, PartsIn, Reader, ServiceIn, Writer
from orchestrator.api.problems import problem_of
from orchestrator.errors import MayflyError, UnsupportedMediaType, ValidationFailed
from orchestrator.identity import Principal
from orchestrator.models import Execution, Frozen, Submission
from orchestrator.states import TERMINAL, State

MAX_WAIT_SECONDS = 60.0
MAX_BATCH = 100
router = APIRouter(prefix="/api/v1/executions", tags=["executions"])
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS)]


class ExecutionList(Frozen):
    """One page of executions, newest first."""

    items: list[Execution]
    next_cursor: str | None


class Batch(Frozen):
    """Several submissions, each accepted or refused by itself."""

    executions: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_BATCH)


class BatchAnswer(Frozen):
    """What became of one of them."""

    status: int
    execution: Execution | None = None
    problem: dict[str, Any] | None = None


def json_only(request: Request) -> None:
    """Raise :class:`UnsupportedMediaType` unless the body is declared as JSON."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType()


@router.post("", status_code=202, response_model=Execution, dependencies=[Depends(json_only)])
async def submit(
    submission: Submission,
    request: Request,
    parts: PartsIn,
    caller: Writer,
    idempotency_key: IdempotencyKey = None,
    prefer: Annotated[str | None, Header(max_length=1000)] = None,
    traceparent: Annotated[str | None, Header(max_length=128)] = None,
) -> Response:
    """Run a program: 202 and the queued execution, or with ``Prefer: wait=N`` 200 and the finished one."""
    body = await request.body()
    id = await run_in_threadpool(
        parts.service.submit,
        caller,
        submission,
        body=body,
        idempotency_key=idempotency_key,
        traceparent=traceparent,
    )
    wait = preferred_wait(prefer)
    execution = await awaited(parts, caller, id, wait or 0.0)
    headers = {"Location": f"/api/v1/executions/{id}"}
    if wait is not None and State(execution.state) in TERMINAL:
        return answer(execution, 200, {**headers, "Preference-Applied": f"wait={wait:g}"})
    return answer(execution, 202, headers)


@router.post("/batch", status_code=207, response_model=list[BatchAnswer], dependencies=[Depends(json_only)])
def submit_batch(batch: Batch, request: Request, service: ServiceIn, caller: Writer) -> Response:
    """Submit up to 100 executions; each is answered for itself, in order."""
    answers: list[BatchAnswer] = []
    for item in batch.executions:
        try:
            try:
                submission = Submission.model_validate(item)
            except ValidationError as error:
                raise ValidationFailed(
                    [(".".join(str(part) for part in e["loc"]), e["msg"]) for e in error.errors(include_url=False)]
                ) from error
            id = service.submit(caller, submission)
            answers.append(BatchAnswer(status=202, execution=service.get(caller, id)))
        except MayflyError as error:
            answers.append(BatchAnswer(status=error.status, problem=problem_of(error, request.state.request_id)))
    return JSONResponse([item.model_dump(mode="json", exclude_none=True) for item in answers], 207)


@router.get("", response_model=ExecutionList)
def list_executions(
    service: ServiceIn,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
    state: State | None = None,
    environment: Annotated[str | None, Query(max_length=64)] = None,
    label: Annotated[list[str] | None, Query(max_length=32)] = None,
) -> Response:
    """The tenant's executions, newest first, without their output."""
    filters = {"state": state.value if state else None, "environment": environment}
    page = service.page(caller, limit, cursor, filters, label or [])
    listed = ExecutionList(items=page.items, next_cursor=page.next_cursor)
    return Response(listed.model_dump_json(), media_type="application/json")


@router.get("/{id}", response_model=Execution)
async def read(
    id: str,
    parts: PartsIn,
    caller: Reader,
    wait: Wait = 0.0,
    if_none_match: Annotated[str | None, Header(max_length=512)] = None,
) -> Response:
    """One execution; with ``wait`` the answer is held back until it ends or the time is over."""
    execution = await awaited(parts, caller, id, wait)
    if State(execution.state) not in TERMINAL:
        return answer(execution, 200, {})
    etag = f'"{execution.id}-{execution.attempt}"'
    if if_none_match == etag:
        return Response(status_code=304, headers={"ETag": etag})
    return answer(execution, 200, {"ETag": etag})


@router.post("/{id}/cancel", status_code=202, response_model=Execution)
def cancel(id: str, service: ServiceIn, caller: Writer) -> Response:
    """Ask for the end of an execution that is queued, starting or running."""
    return answer(service.cancel(caller, id), 202, {})


@router.delete("/{id}", status_code=204)
def delete(id: str, service: ServiceIn, caller: Writer) -> Response:
    """Remove a finished execution: its record, output and artifacts are gone."""
    service.delete(caller, id)
    return Response(status_code=204)


async def awaited(parts: Parts, caller: Principal, id: str, seconds: float) -> Execution:
    """The execution, as soon as it has ended or ``seconds`` are over."""
    deadline = time.monotonic() + seconds
    with parts.wakeups.listen(id, only_ends=True) as listener:
        while True:
            left = deadline - time.monotonic()
            execution = await run_in_threadpool(parts.service.get, caller, id)
            if State(execution.state) in TERMINAL or left <= 0:
                return execution
            await listener.wait(left)


def answer(execution: Execution, status: Literal[200, 202], headers: dict[str, str]) -> Response:
    """An execution as JSON."""
    return Response(execution.model_dump_json(), status, headers, "application/json")


def preferred_wait(prefer: str | None) -> float | None:
    """The seconds of RFC 7240's ``wait`` preference, clamped; ``None`` where there is none that can be read."""
    for part in (prefer or "").split(","):
        name, _, value = part.partition(";")[0].partition("=")
        if name.strip().lower() == "wait" and value.strip().strip('"').isdigit():
            return min(float(value.strip().strip('"')), MAX_WAIT_SECONDS)
    return None
