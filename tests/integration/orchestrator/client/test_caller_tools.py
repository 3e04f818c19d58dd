"""Both clients fulfil the calls of programs, over a real API; the program is played by the test."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, cast

import pytest

from mayfly import AsyncClient, Client, Execution, WaitTimeout
from orchestrator.errors import StaleAttempt
from orchestrator.models.tools import ToolOutcome
from orchestrator.store import Store
from tests.builders.tools.caller_calls import CallingProgram, store_of
from tests.harness import Stack, eventually

Run = Callable[..., Execution]
Began = Callable[..., tuple[Future[Execution], CallingProgram]]


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"lease_seconds": 600.0}  # no worker renews the leases of these executions


@pytest.fixture
def store(api: Stack) -> Iterator[Store]:
    with store_of(api) as store:
        yield store


@pytest.fixture(params=[False, True], ids=["blocking", "asynchronous"])
def run(request: pytest.FixtureRequest, api: Stack) -> Run:
    """``run`` of one of the clients."""

    def blocking(**options: Any) -> Execution:
        with Client(api.env["MAYFLY_URL"], api.key, patience_seconds=180) as client:
            return client.run("1", **options)

    def asynchronously(**options: Any) -> Execution:
        async def main() -> Execution:
            async with AsyncClient(api.env["MAYFLY_URL"], api.key, patience_seconds=180) as client:
                return await client.run("1", **options)

        return asyncio.run(main())

    return asynchronously if request.param else blocking


@pytest.fixture
def began(store: Store, run: Run) -> Iterator[Began]:
    """Runs in another thread, each with its program, once it was submitted. Programs that are left over are ended."""
    programs: list[CallingProgram] = []

    def queued() -> set[str]:
        return {id for _, id in store.records.page_ids("default", None, 100)}

    def begin(**options: Any) -> tuple[Future[Execution], CallingProgram]:
        known = queued()
        future = pool.submit(run, **options)
        [id] = eventually(lambda: queued() - known, "the execution is queued")
        programs.append(CallingProgram(store, id))
        return future, programs[-1]

    with ThreadPoolExecutor(1) as pool:
        yield begin
        for program in programs:
            with suppress(StaleAttempt):
                program.end()


def test_functions_answer_the_program(began: Began) -> None:
    async def later(a: int) -> int:
        return a + 1

    def fails(a: int) -> None:
        raise ValueError(f"no {a}")

    future, program = began(tools={"double": lambda a: 2 * a, "later": later, "fails": fails})
    doubled, added, failed = program.call("double", a=4), program.call("later", a=4), program.call("fails", a=4)
    assert program.outcome(doubled) == ToolOutcome(result="8")
    assert program.outcome(added) == ToolOutcome(result="5")
    failure = program.outcome(failed).failure
    assert failure is not None
    assert (failure.code, failure.message) == ("tool_failed", "no 4")
    program.end()
    assert future.result(60).has_succeeded


def test_calls_of_tools_overlap(began: Began) -> None:
    together = threading.Barrier(8, timeout=60)

    def meet() -> int:
        return int(together.wait())

    future, program = began(tools=[meet])
    calls = [program.call("meet") for _ in range(8)]
    assert {program.outcome(call).result for call in calls} == {str(n) for n in range(8)}
    program.end()
    assert future.result(60).has_succeeded


def test_program_that_ends_waits_for_no_function(began: Began) -> None:
    release, entered = threading.Event(), threading.Event()

    def stuck() -> None:
        entered.set()
        release.wait(60)

    future, program = began(tools=[stuck])
    program.call("stuck")
    assert entered.wait(60)
    program.end("failed")
    try:
        assert future.result(60).state == "failed"
    finally:
        release.set()


def test_wrong_result_is_the_programs_to_see(began: Began) -> None:
    def count() -> int:
        return cast("int", "three")

    future, program = began(tools=[count])
    failure = program.outcome(program.call("count")).failure
    assert failure is not None
    assert "outputSchema" in failure.message
    program.end()
    assert future.result(60).has_succeeded


def test_timeout_leaves_the_execution(began: Began) -> None:
    future, program = began(tools={"f": lambda: 1}, timeout_seconds=1.0)
    with pytest.raises(WaitTimeout):
        future.result(60)
    program.end()


def test_api_that_restarts_between_call_and_answer_loses_nothing(api: Stack, began: Began) -> None:
    entered, release = threading.Event(), threading.Event()
    counted = []

    def count(n: int) -> int:
        counted.append(n)
        entered.set()
        release.wait(60)
        return n

    future, program = began(tools=[count])
    first = program.call("count", n=1)
    assert entered.wait(60)
    assert api.api is not None
    api.api.stop(signal.SIGKILL)
    release.set()
    second = program.call("count", n=2)
    api.start_api()
    assert program.outcome(first) == ToolOutcome(result="1")
    assert program.outcome(second) == ToolOutcome(result="2")
    program.end()
    assert future.result(240).has_succeeded
    assert sorted(counted) == [1, 2]
