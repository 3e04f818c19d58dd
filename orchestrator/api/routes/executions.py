"""Routes of executions: submit, wait, read, cancel, delete."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from orchestrator.api.bodies import MAX_MISTAKES, JsonBody, body_of, refusal
from orchestrator.api.dependencies import (
    KEY_SECONDS,
    Caller,
    DirectRoute,
    Parts,
    PartsIn,
    Rechecks,
    ServiceIn,
    parts_of,
    principal,
)
from orchestrator.api.problems import problem_of
from orchestrator.errors import MayflyError, Mistake, ValidationFailed
from orchestrator.identity import Principal
from orchestrator.identity.authorization import authorize
from orchestrator.models import Execution, Frozen
from orchestrator.models.submission import Submission
from orchestrator.queries.results import Results
from orchestrator.queries.wakeups import Listener
from orchestrator.service import Service, new_id
from orchestrator.states import TERMINAL, State
from orchestrator.tools.checking.steps import Steps

MAX_WAIT_SECONDS = 60.0
MAX_BATCH = 100
router = APIRouter(prefix="/api/v1/executions", tags=["executions"], route_class=DirectRoute)
KEY_LENGTH, KEY_PATTERN = 255, r"^[\x21-\x7e]+$"  # of an Idempotency-Key
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=KEY_LENGTH, pattern=KEY_PATTERN)]
SUBMISSION, EXECUTION = JsonBody(Submission), TypeAdapter(Execution)
Wait = Annotated[
    float,
    Query(ge=0, allow_inf_nan=False, description=f"Seconds to wait, at most {MAX_WAIT_SECONDS:g}; more are clamped."),
    AfterValidator(lambda seconds: min(seconds, MAX_WAIT_SECONDS)),
]
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
SUBMIT_HEADERS = [
    {"name": name, "in": "header", "required": False, "schema": {"anyOf": [schema, {"type": "null"}], "title": title}}
    for name, title, schema in (
        (
            "idempotency-key",
            "Idempotency-Key",
            {"type": "string", "minLength": 1, "maxLength": KEY_LENGTH, "pattern": KEY_PATTERN},
        ),
        ("prefer", "Prefer", {"type": "string"}),
        ("traceparent", "Traceparent", {"type": "string"}),
    )
]
WAIT = re.compile(r'"?(\d{1,9})"?', re.ASCII)


class ExecutionList(Frozen):
    """One page of executions, newest first."""

    items: list[Execution]
    next_cursor: str | None


class Batch(Frozen):
    """Several submissions, each accepted or refused independently."""

    executions: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_BATCH)


BATCH = JsonBody(Batch)


class BatchAnswer(Frozen):
    """The answer to one submission of a batch."""

    status: int
    execution: Execution | None = None
    problem: dict[str, Any] | None = None


@router.post(
    "",
    status_code=202,
    response_model=Execution,
    responses={200: {"model": Execution, "description": "The execution ended within the preferred wait."}},
    openapi_extra={**body_of(Submission), "parameters": SUBMIT_HEADERS},
)
async def submit(request: Request) -> Response:
    """Submit a program: 202 and the queued execution, or with ``Prefer: wait=N`` 200 and the finished execution."""
    parts, given = parts_of(request), request.headers
    caller = await principal(request, parts)
    id, wait = new_id(), preferred_wait(given.get("prefer"))
    if wait:
        authorize(caller, "execution.submit_and_read", caller.tenant)
    with parts.wakeups.ends(id) as listener:  # before any process can end the execution
        async with SUBMISSION.read(request, caller) as (submission, body):
            key, traceparent = given.get("idempotency-key"), given.get("traceparent")
            if key is not None and not (len(key) <= KEY_LENGTH and re.fullmatch(KEY_PATTERN, key)):
                message = f"must have 1 to {KEY_LENGTH} printable ASCII characters, without spaces"
                bound = KEY_LENGTH if len(key) > KEY_LENGTH else None
                raise ValidationFailed([Mistake("idempotency-key", message, bound)])
            deadline = time.monotonic() + (wait or 0.0)
            accept = partial(
                parts.service.submit,
                caller,
                submission,
                id=id,
                body=body,
                reply_to=parts.wakeups.name if wait else None,
                idempotency_key=key,
                # An unreadable trace context begins a new trace; W3C forbids refusing the request.
                traceparent=traceparent if TRACEPARENT.fullmatch(traceparent or "") else None,
            )
            execution = await parts.threads.run(caller.tenant, accept)
        del accept, submission, body  # frees the body's memory while the program runs
        rechecks = Rechecks(parts, caller, given.get("authorization"))
        if wait and execution.id == id:
            if not parts.wakeups.draining:
                await listener.wait(min(wait, KEY_SECONDS))
            ended = parts.results.pushed(id, listener.answer)
            look = partial(parts.results.get, caller, id)
            execution = ended or await _ended(parts, look, caller.tenant, deadline, listener, rechecks)
        elif wait:
            look = partial(parts.results.get, caller, execution.id)
            execution = await awaited(parts, execution.id, wait, caller.tenant, look, rechecks)
    headers = {"Location": f"/api/v1/executions/{execution.id}"}
    if wait is not None and State(execution.state) in TERMINAL:
        return answer(execution, 200, {**headers, "Preference-Applied": f"wait={wait:g}"})
    return answer(execution, 202, headers)


@router.post("/batch", status_code=207, response_model=list[BatchAnswer], openapi_extra=body_of(Batch))
async def submit_batch(
    caller: Caller, request: Request, parts: PartsIn, idempotency_key: IdempotencyKey = None
) -> Response:
    """Submit up to 100 executions. Each has an answer, in order; an Idempotency-Key covers each at its position."""
    async with BATCH.read(request, caller) as (batch, _):
        accept = partial(accepted, parts.service, caller, batch, request.state.request_id, idempotency_key)
        answers = await parts.threads.run(caller.tenant, accept)
        del accept, batch
    return JSONResponse(answers, 207)


def accepted(
    service: Service, caller: Principal, batch: Batch, request_id: str, idempotency_key: str | None
) -> list[dict[str, Any]]:
    """Submit a batch, and answer each submission. The checks of all tools together are bounded like a single check, and
    so are the listed mistakes: the event loop would wait for their JSON.
    """
    answers: list[dict[str, Any]] = []
    steps, left = Steps(), MAX_MISTAKES
    for position, item in enumerate(batch.executions):
        try:
            try:
                submission = Submission.model_validate(item)
            except ValidationError as error:
                raise refusal(error) from error
            # Clients' keys have no space, so a key with a position differs from all of them.
            key = None if idempotency_key is None else f"{idempotency_key} {position}"
            with steps.shared():
                queued = service.submit(caller, submission, body=json.dumps(item).encode(), idempotency_key=key)
            answers.append({"status": 202, "execution": queued.model_dump(mode="json")})
        except MayflyError as error:
            if isinstance(error, ValidationFailed):
                left -= len(error.errors)
                error = error if left >= 0 or len(error.errors) == 1 else error.counted()
            answers.append({"status": error.status, "problem": problem_of(error, request_id)})
    return answers


@router.get("", response_model=ExecutionList)
async def list_executions(
    parts: PartsIn,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
    state: State | None = None,
    environment: Annotated[str | None, Query(max_length=64)] = None,
    label: Annotated[list[str] | None, Query(max_length=32)] = None,
    tenant: Annotated[str | None, Query(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] = None,
) -> Response:
    """List the tenant's executions, newest first, without output. Operators name any ``tenant``, and see metadata.

    A request reads a bounded number of executions: with filters a page may have few items or none, and a
    ``next_cursor`` that continues the list. The list ends where ``next_cursor`` is null.
    """
    filters = {"state": state.value if state else None, "environment": environment}
    text = await parts.traffic.readings.run(
        caller.tenant, partial(_page, parts.results, caller, limit, cursor, filters, label, tenant)
    )
    return Response(text, media_type="application/json")


@router.get(
    "/{id}", response_model=Execution, responses={304: {"description": "The record is unchanged since the ETag."}}
)
async def read(
    id: str,
    request: Request,
    parts: PartsIn,
    caller: Caller,
    wait: Wait = 0.0,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Show an execution. With ``wait`` the answer is sent when the execution has ended or the time is over.

    Operators see executions of all tenants, without code, output and files.
    """
    rechecks = Rechecks(parts, caller, request.headers.get("authorization"))
    execution = await awaited(parts, id, wait, caller.tenant, partial(parts.results.view, caller, id), rechecks)
    if State(execution.state) not in TERMINAL:
        return answer(execution, 200, {})
    tokens = f"-{execution.tokens_returned}" if execution.tokens_returned else ""
    etag = f'"{execution.id}-{execution.attempt}-{execution.security_events}{tokens}"'
    known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers={"ETag": etag})
    return answer(execution, 200, {"ETag": etag})


@router.post("/{id}/cancel", status_code=202, response_model=Execution)
def cancel(id: str, service: ServiceIn, caller: Caller) -> Response:
    """Cancel an execution that is queued, starting or running."""
    return answer(service.cancel(caller, id), 202, {})


@router.delete("/{id}", status_code=204)
def delete(id: str, service: ServiceIn, caller: Caller) -> Response:
    """Delete a finished execution: its record, output and artifacts."""
    service.delete(caller, id)
    return Response(status_code=204)


def _page(
    results: Results,
    caller: Principal,
    limit: int,
    cursor: str | None,
    filters: dict[str, str | None],
    labels: list[str] | None,
    tenant: str | None,
) -> str:
    page = results.page(caller, limit, cursor, filters, labels or [], tenant)
    return ExecutionList(items=page.items, next_cursor=page.next_cursor).model_dump_json()


async def awaited(
    parts: Parts, id: str, seconds: float, tenant: str, look: Callable[[], Execution], rechecks: Rechecks
) -> Execution:
    """The execution, once it has ended or ``seconds`` are over; ``look`` reads it in a thread of the tenant.

    Raises as :meth:`Rechecks.if_due` does.
    """
    deadline = time.monotonic() + seconds
    with parts.wakeups.ends(id) as listener:
        return await _ended(parts, look, tenant, deadline, listener, rechecks)


async def _ended(
    parts: Parts,
    look: Callable[[], Execution],
    tenant: str,
    deadline: float,
    listener: Listener,
    rechecks: Rechecks,
) -> Execution:
    while True:
        left = deadline - time.monotonic()
        await rechecks.if_due()
        execution = await parts.threads.run(tenant, look)
        if State(execution.state) in TERMINAL or left <= 0 or parts.wakeups.draining:
            return execution
        await listener.wait(min(left, KEY_SECONDS))


def answer(execution: Execution, status: Literal[200, 202], headers: dict[str, str]) -> Response:
    """The answer with an execution, encoded directly to bytes: by way of a string, a megabyte of output would take four
    times as long.
    """
    return Response(EXECUTION.dump_json(execution), status, headers, "application/json")


def preferred_wait(prefer: str | None) -> float | None:
    """The seconds of RFC 7240's ``wait`` preference, clamped; ``None`` without a readable preference."""
    for part in (prefer or "").split(","):
        name, _, value = part.partition(";")[0].partition("=")
        seconds = WAIT.fullmatch(value.strip())
        if name.strip().lower() == "wait" and seconds:
            return min(float(seconds[1]), MAX_WAIT_SECONDS)
    return None
