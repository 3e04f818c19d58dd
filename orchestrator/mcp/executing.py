"""The tools about executions: run a program, look at it, wait for it, stop it.

A call that is cancelled, or whose client closes the stream, cancels its execution. A call that outlasts its wait leaves
the execution running, and answers with its id.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import anyio
import structlog
from mcp_types import CallToolResult

from orchestrator.errors import AlreadyFinished, NotFound, StoreUnavailable
from orchestrator.mcp.answers import execution_result, failure, state_result
from orchestrator.mcp.arguments import CancelExecution, ExecuteCode, GetExecution
from orchestrator.mcp.parts import Caller, Parts
from orchestrator.mcp.progress import Progress
from orchestrator.models import Execution
from orchestrator.models.submission import Submission
from orchestrator.queries.wakeups import Listener
from orchestrator.service import new_id
from orchestrator.states import TERMINAL, State

RECHECK_SECONDS = 5.0  # between a waiting call's checks of its key
CANCEL_SECONDS = 10.0
SHORT_SECONDS = 0.2  # shorter calls are not registered for cancellation by a message
EVENT_SECONDS, EVENT_PAUSE_SECONDS = 1.0, 0.1
DENIED = re.compile(r"Operation not permitted|Permission denied|\bEPERM\b|\bEACCES\b")
log = structlog.get_logger()


async def execute_code(parts: Parts, caller: Caller, arguments: ExecuteCode, progress: Progress) -> CallToolResult:
    """Run a program, and wait for its end within bounds."""
    id = new_id()
    wait = _wait(parts, arguments.wait_seconds)
    call = run(parts, caller, id, submission_of(parts, arguments), wait, progress)
    return await execution_result(parts, caller, await call, arguments.max_output_tokens)


async def submit(parts: Parts, caller: Caller, arguments: ExecuteCode) -> Execution:
    """Submit a program without waiting for its end."""
    call = partial(parts.service.submit, caller.principal, submission_of(parts, arguments))
    return await parts.threads.run(caller.tenant, call)


async def run(
    parts: Parts, caller: Caller, id: str, submission: Submission, wait: float, progress: Progress
) -> Execution:
    """Submit under ``id`` and wait up to ``wait`` seconds; a cancelled call cancels the execution."""
    deadline = time.monotonic() + wait
    try:
        with parts.wakeups.ends(id) as listener:  # before any other process can end it
            reply_to = parts.wakeups.name if wait else None  # its result is pushed here
            submit = partial(parts.service.submit, caller.principal, submission, id=id, reply_to=reply_to)
            execution = await parts.threads.run(caller.tenant, submit)
            if not wait:
                return execution
            with cancellable(parts, caller, id, wait):
                async with progress.of(parts, caller, id):
                    execution = await ended(parts, caller, id, deadline, listener)
            execution = await with_events(parts, caller, execution)
            await progress.done(execution.state)
            return execution
    except anyio.get_cancelled_exc_class():
        with anyio.move_on_after(CANCEL_SECONDS, shield=True):
            await anyio.to_thread.run_sync(_stop, parts, caller, id)  # not in the tenant's threads, which may be busy
        raise


@contextmanager
def cancellable(parts: Parts, caller: Caller, id: str, wait: float) -> Iterator[None]:
    """Let the client cancel its call by a message.

    The call is registered after :data:`SHORT_SECONDS`; an earlier message takes effect then. Most calls end before, and
    so need neither Redis nor a thread for it.
    """
    if caller.call is None:
        yield
        return
    call, loop = caller.call, asyncio.get_running_loop()

    def register() -> None:
        loop.run_in_executor(None, _begin, parts, caller, call, id, wait)
        caller.afterwards.add(partial(parts.agent_calls.end, caller.principal, call))

    timer = loop.call_later(SHORT_SECONDS, register)
    try:
        yield
    finally:
        timer.cancel()


def _begin(parts: Parts, caller: Caller, call: str, id: str, wait: float) -> None:
    """Register a call. Without Redis only the end of the connection cancels the call."""
    try:
        parts.agent_calls.begin(caller.principal, call, id, wait)
    except StoreUnavailable:
        log.warning("mcp.begin", execution=id, stored=False)


def submission_of(parts: Parts, arguments: ExecuteCode) -> Submission:
    """The submission for a call of the tool: a cell, if the environment has cells."""
    asked = arguments.model_dump(exclude={"wait_seconds", "max_output_tokens", "mode", "stdin"}, exclude_unset=True)
    environment = parts.service.environments.resolve(arguments.environment)
    usual = "cell" if environment is not None and environment.cell else "script"
    chosen = {"environment": arguments.environment, "stdin": arguments.stdin, "mode": arguments.mode or usual}
    return Submission.model_validate({**asked, **chosen})


async def ended(parts: Parts, caller: Caller, id: str, deadline: float, listener: Listener) -> Execution:
    """The execution at its end or at the deadline. Raises as the caller's ``recheck`` does."""
    began = time.monotonic()
    while True:
        left = deadline - time.monotonic()
        if left > 0 and not parts.wakeups.draining:
            woken = await listener.wait(min(left, RECHECK_SECONDS))
            if not woken and left > RECHECK_SECONDS:
                await parts.threads.run(caller.tenant, caller.recheck)
                continue
        if time.monotonic() - began > RECHECK_SECONDS:
            await parts.threads.run(caller.tenant, caller.recheck)
        if (found := parts.results.pushed(id, listener.answer)) is not None:
            return found
        execution = await parts.threads.run(caller.tenant, partial(parts.results.get, caller.principal, id))
        if State(execution.state) in TERMINAL or left <= 0 or parts.wakeups.draining:
            return execution


async def with_events(parts: Parts, caller: Caller, execution: Execution) -> Execution:
    """The execution with its security events, which follow up to a second after the end, if a denied call is likely."""
    deadline = time.monotonic() + EVENT_SECONDS
    while (
        execution.state == State.FAILED
        and not execution.security_events
        and DENIED.search(execution.stderr or "")
        and time.monotonic() < deadline
    ):
        await anyio.sleep(EVENT_PAUSE_SECONDS)  # this process gets no message about them
        execution = await parts.threads.run(caller.tenant, partial(parts.results.get, caller.principal, execution.id))
    return execution


async def get_execution(parts: Parts, caller: Caller, arguments: GetExecution, progress: Progress) -> CallToolResult:
    """An execution, now or at its end."""
    call = _looked_at(parts, caller, arguments, progress)
    return await execution_result(parts, caller, await call, arguments.max_output_tokens)


async def _looked_at(parts: Parts, caller: Caller, arguments: GetExecution, progress: Progress) -> Execution:
    id, wait = arguments.execution_id, _wait(parts, arguments.wait_seconds)
    deadline = time.monotonic() + wait
    with parts.wakeups.ends(id) as listener:
        execution = await parts.threads.run(caller.tenant, partial(parts.results.get, caller.principal, id))
        if State(execution.state) not in TERMINAL and wait:
            async with progress.of(parts, caller, id):
                execution = await ended(parts, caller, id, deadline, listener)
            await progress.done(execution.state)
    return execution


async def cancel_execution(parts: Parts, caller: Caller, arguments: CancelExecution) -> CallToolResult:
    """Request an execution's end; the answer has the state at that time."""
    cancel = partial(parts.service.cancel, caller.principal, arguments.execution_id)
    try:
        execution = await parts.threads.run(caller.tenant, cancel)
    except AlreadyFinished as error:
        return failure(f"{error.code}: {error.message} get_execution has its result.")
    is_over = State(execution.state) in TERMINAL
    return state_result(execution.id, execution.state, "" if is_over else ", and is being stopped")


def _wait(parts: Parts, asked: float | None) -> float:
    most = parts.settings.mcp_wait_seconds
    return most if asked is None else min(asked, most)


def _stop(parts: Parts, caller: Caller, id: str) -> None:
    """Cancel the execution of a cancelled call, if the execution was submitted and has not ended."""
    try:
        parts.service.cancel(caller.principal, id)
    except (NotFound, AlreadyFinished):
        return
    except StoreUnavailable:
        log.warning("mcp.cancel", execution=id, stored=False)
