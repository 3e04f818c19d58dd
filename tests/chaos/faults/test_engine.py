"""The engine fails, hangs, is slow or breaks off: executions end once and well, or as the platform's fault."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.builders.sandboxes.pauses import Pause
from tests.chaos.installations.containers import inside
from tests.chaos.installations.proxy import EngineProxy
from tests.chaos.invariants import Accepted, violations
from tests.engine import ENGINE
from tests.harness import Stack, eventually

SLOTS = 3
TIMEOUT_SECONDS = 2
PROGRAM = "import time\nfor n in range(3):\n    print(n, flush=True)\n    time.sleep(0.05)\n"
PRINTED = "0\n1\n2\n"
BLOCKED = 'mayfly_worker_launches_blocked{isolation="standard"}'


@pytest.fixture
def proxy(engine: None) -> Iterator[EngineProxy]:
    with tempfile.TemporaryDirectory(prefix="mayfly-proxy-") as home:  # pytest's own are too deep for sockets
        proxy = EngineProxy(ENGINE, Path(home) / "engine.sock")
        yield proxy
        proxy.close()


@pytest.fixture
def behind(proxy: EngineProxy, own_stack: Callable[..., Stack]) -> Iterator[Callable[..., Stack]]:
    """Makes a stack whose worker reaches the engine through the proxy."""

    def make(**settings: Any) -> Stack:
        bounds = {"engine_timeout_seconds": TIMEOUT_SECONDS, "slots": SLOTS, "spare_slots": 0, "retry_seconds": 0.1}
        return own_stack(docker_url=proxy.url, **{**bounds, **settings}).start()

    yield make
    proxy.behave()  # while the stack is taken down


def submit(stack: Stack, code: str = PROGRAM, printed: str = PRINTED, wall_seconds: float = 60) -> Accepted:
    answer = stack.submit(environment="python", code=code, limits={"wall_seconds": wall_seconds})
    assert answer.status_code == 202, answer.text
    return Accepted(answer.json()["id"], printed)


def await_end(stack: Stack, one: Accepted) -> dict[str, Any]:
    eventually(lambda: stack.show(one.id, wait=60)["finished_at"], "the execution ends", 200)
    one.reported = stack.show(one.id)
    return one.reported


def run_many(stack: Stack, number: int) -> list[Accepted]:
    def run(_: int) -> Accepted:
        one = submit(stack)
        await_end(stack, one)
        return one

    with ThreadPoolExecutor(2 * SLOTS) as clients:
        return list(clients.map(run, range(number)))


def check(stack: Stack, accepted: list[Accepted]) -> None:
    """Each has ended once, well or by the platform's fault; as many run at once as ever; nothing is left."""
    for one in accepted:
        reported = await_end(stack, one)
        ended = tuple(reported[name] for name in ("state", "reason", "fault"))
        assert ended in (("succeeded", None, None), ("errored", "runtime_unavailable", "platform")), reported
        one.spoilt = True
    sleepers = [submit(stack, "import time; time.sleep(200)", "", 250) for _ in range(SLOTS)]
    eventually(
        lambda: {stack.show(one.id)["state"] for one in sleepers} == {"running"}, "every slot runs an execution", 120
    )
    for one in sleepers:
        assert stack.client.post(f"/api/v1/executions/{one.id}/cancel").status_code == 202
        assert await_end(stack, one)["state"] == "cancelled"
        one.cancelled = True
    for worker in stack.workers:
        assert worker.stop() == 0
    eventually(lambda: stack.containers() == [], "the engine has removed the containers of the ended worker")
    for one in (everything := [*accepted, *sleepers]):
        one.reported_again = stack.show(one.id)
    with stack.redis.client() as redis:
        eventually(lambda: not violations(redis, everything), "nothing is violated")


def test_executions_survive_an_engine_that_fails_every_tenth_call(
    behind: Callable[..., Stack], proxy: EngineProxy
) -> None:
    stack = behind(engine_timeout_seconds=30)  # calls fail at once, and none because the engine is slow
    proxy.fail_chance = 0.1
    accepted = run_many(stack, 8)
    eventually(lambda: proxy.failed > 10, "calls have failed")
    proxy.behave()
    check(stack, accepted)


@pytest.mark.complete
def test_the_engine_is_slow_and_breaks_off_and_fails(behind: Callable[..., Stack], proxy: EngineProxy) -> None:
    stack = behind(max_attempts=8)
    proxy.delay_seconds, proxy.cut_chance, proxy.fail_chance = 0.2, 0.03, 0.05
    accepted = run_many(stack, 20)
    proxy.behave()
    assert proxy.cuts > 5
    assert proxy.failed > 5
    check(stack, accepted)


@pytest.mark.thorough
def test_hanging_engine_delays_no_execution_beyond_its_bound(behind: Callable[..., Stack], proxy: EngineProxy) -> None:
    """Running executions are retried by the platform, no further execution is taken, and every wait has its bound."""
    stack = behind(max_attempts=8)
    code = "import time; print('begun', flush=True); time.sleep(1)"
    accepted = [submit(stack, code, "begun\n", 2) for _ in range(2 * SLOTS)]
    eventually(lambda: stack.reported("busy") == [SLOTS], "every slot is busy")
    proxy.hold()
    eventually(lambda: stack.reported("engine") == ["unavailable"], "the worker reports the trouble", 60)
    eventually(lambda: stack.reported("busy") == [0], "no slot waits for the engine", 60)
    assert stack.client.get("/readyz").status_code == 503
    proxy.behave()
    assert {await_end(stack, one)["state"] for one in accepted} == {"succeeded"}
    check(stack, accepted)


def test_stream_broken_by_engine_is_not_the_programs_fault(behind: Callable[..., Stack], proxy: EngineProxy) -> None:
    stack = behind(engine_timeout_seconds=60)
    pause = Pause()
    code = f"import sys; print('begun', flush=True); {pause.code}; sys.exit(3)"
    cut_off = submit(stack, code, "begun\n", 60)
    pause.begun()
    first = set(pause.processes())
    proxy.cut()
    eventually(lambda: set(pause.processes()) - first, "a second attempt pauses")
    pause.end()
    ended = await_end(stack, cut_off)
    assert (ended["exit_code"], ended["stdout"], ended["attempt"]) == (3, "begun\n", 2), ended
    delayed = submit(stack, code, "begun\n", 5)
    pause.begun()
    uid = psutil.Process(pause.processes()[0]).uids().real
    proxy.hold()
    pause.end()
    # The limit, and the agent's time to apply it, are over; the worker reads what was sent in time for seconds more.
    eventually(lambda: uid not in {one.info["uids"].real for one in inside(uid)}, "the host has killed the sandbox")
    proxy.flow()
    pause.end()
    ended = await_end(stack, delayed)
    assert (ended["exit_code"], ended["stdout"], ended["attempt"]) == (3, "begun\n", 2), ended


@pytest.mark.complete
def test_worker_takes_no_execution_that_cannot_be_launched(behind: Callable[..., Stack], proxy: EngineProxy) -> None:
    stack = behind(max_attempts=8, pool_sizes={})
    proxy.fail_chance, proxy.about = 1.0, b"/start"
    accepted = [submit(stack) for _ in range(2)]
    (worker,) = eventually(
        lambda: [one for one in stack.fleet() if one["trouble"]], "the worker reports the trouble", 60
    )
    message = "launches of isolation 'standard' fail: The container engine failed to start."
    assert worker["trouble"] == [message]
    assert stack.worker_metrics()[BLOCKED] == 1.0
    assert stack.client.get("/readyz").status_code == 503
    proxy.behave()
    assert {await_end(stack, one)["state"] for one in accepted} == {"succeeded"}
    eventually(lambda: stack.reported("trouble") == [[]], "the worker reports the end of the trouble")
    assert stack.worker_metrics()[BLOCKED] == 0.0
    check(stack, accepted)
