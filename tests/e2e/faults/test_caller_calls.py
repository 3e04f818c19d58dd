"""Calls of tools that the client fulfils, while the API or the worker is killed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mayfly import Client
from tests.harness import Stack, Way

PROGRAM = """
import sys
from mayfly import tools
print(sum(tools.caller.square(n=n) for n in range(0, 20, int(sys.argv[1]))))
"""
LIMITS = {"wall_seconds": 60.0}


@pytest.fixture
def stack(own_stack: Callable[..., Stack], need_runtime: Callable[..., None]) -> Stack:
    """An installation with crun, whose calls outlast restarts."""
    way = Way("oci-crun")
    need_runtime(way.runtime, way.driver)
    return own_stack(**way.settings, tool_seconds=120.0, tool_wait_seconds=600.0, retry_seconds=0.1).start()


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.env["MAYFLY_URL"], stack.key, patience_seconds=120) as client:
        yield client


def restart_api(stack: Stack) -> None:
    assert stack.api is not None
    stack.api.stop(signal.SIGKILL)
    stack.start_api()


@pytest.mark.parametrize("each", [5, pytest.param(1, marks=pytest.mark.complete)])
def test_api_killed_at_every_step_of_a_call_loses_none_and_repeats_none(
    stack: Stack, client: Client, each: int
) -> None:
    """A restart begins some milliseconds after a call has reached the client: before, while or after it answers, or
    before the client reads the next call.
    """
    asked: list[int] = []
    restarts: list[threading.Thread] = []

    def square(n: int) -> int:
        asked.append(n)
        if restarts:
            restarts[-1].join()
        restart = threading.Timer(0.003 * n, restart_api, [stack])
        restart.start()
        restarts.append(restart)
        return n * n

    numbers = list(range(0, 20, each))
    ended = client.run(PROGRAM, args=[str(each)], tools=[square], limits=LIMITS).check()
    restarts[-1].join()
    assert ended.stdout == f"{sum(n * n for n in numbers)}\n"
    assert asked == numbers
    assert [call["outcome"] for call in client.get(ended.id).document["tool_calls"]] == ["ok"] * len(numbers)


def test_killed_worker_ends_the_call_and_the_program_is_not_started_again(stack: Stack, client: Client) -> None:
    killed = threading.Event()

    def square(n: int) -> int:
        stack.workers[0].stop(signal.SIGKILL)
        killed.set()
        return n * n

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(client.run, PROGRAM, args=["1"], tools=[square], limits=LIMITS)
        assert killed.wait(60)
        stack.start_worker()
        ended = run.result(120)
    assert (ended.state, ended.reason, ended.attempt) == ("errored", "worker_lost", 1)
