"""Every reason an execution can end for, produced by a real program or a real fault.

One table for what programs do, one test for each fault of the platform, and a last one that none is missing.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.states import Fault, Reason
from tests.builders.sandboxes.endings import PROGRAMS
from tests.builders.tier import Tier
from tests.harness import LONG_LEASE_SECONDS, ROOT, WAYS, Process, Stack, Way, eventually

ENVIRONMENTS = [str(ROOT / "sandbox_image" / "environments"), str(ROOT / "tests" / "environments")]

FAULTS = {
    Reason.ENVIRONMENT_UNAVAILABLE, Reason.RUNTIME_UNAVAILABLE, Reason.WORKER_LOST, Reason.QUEUE_EXPIRED,
    Reason.INTERNAL, Reason.CANCELLED_BY_USER, Reason.CANCELLED_BY_OPERATOR,
}  # fmt: skip


@pytest.fixture(scope="module")
def compiling_stack(images: Path, image_of: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Any:
    image_of("c")
    settings = {"environments_dirs": ENVIRONMENTS, "pool_sizes": {"python": 2}, "lease_seconds": LONG_LEASE_SECONDS}
    stack = Stack(tmp_path_factory.mktemp("reasons"), **settings)
    try:
        yield stack.start()
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def ends(compiling_stack: Stack) -> dict[str, dict[str, Any]]:
    """The ends of the table's programs, which run some at a time."""
    return Tier(compiling_stack, Way(WAYS[0])).run_all({case[0]: case[1] for case in PROGRAMS})


@pytest.mark.parametrize(
    ("name", "state", "reason", "fault", "more"),
    [(case[0], *case[2:]) for case in PROGRAMS],
    ids=[case[0] for case in PROGRAMS],
)
def test_execution_ends_with_the_expected_reason(
    ends: dict[str, dict[str, Any]],
    name: str,
    state: str,
    reason: str | None,
    fault: str | None,
    more: dict[str, Any],
) -> None:
    ended = ends[name]
    assert (state, reason, fault) == (ended["state"], ended["reason"], ended["fault"]), ended
    assert more == {name: ended[name] for name in more}


def test_compiler_output_is_reported(compiling_stack: Stack) -> None:
    ended = compiling_stack.run(environment="c", code="int main(void) { return nonsense; }")
    assert ended["compile"]["exit_code"] != 0
    assert "nonsense" in ended["compile"]["stderr"]
    assert "/work/main.c" in ended["compile"]["stderr"]


def test_a_time_out_keeps_artifacts(compiling_stack: Stack) -> None:
    code = "import time\nopen('/output/half.txt', 'w').write('half')\ntime.sleep(30)"
    ended = compiling_stack.run(code=code, limits={"wall_seconds": 3})
    assert ended["reason"] == "timed_out"
    assert compiling_stack.artifact(ended, "half.txt") == b"half"


def _ended(stack: Stack, id: str) -> tuple[str, str | None, str | None]:
    shown = stack.ended(id)
    return shown["state"], shown["reason"], shown["fault"]


def test_environment_without_image_ends_as_environment_unavailable(
    own_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    declared = (ROOT / "tests" / "environments" / "c.toml").read_text().replace('"c"', '"ghost"', 1)
    (tmp_path / "ghost.toml").write_text(declared)
    stack = own_stack(environments_dirs=[*ENVIRONMENTS[:1], str(tmp_path)]).start()
    ended = stack.run("ghost", code="x")
    assert (ended["state"], ended["reason"], ended["fault"]) == ("errored", "environment_unavailable", "platform")
    assert ended["attempt"] == 3


def test_broken_runtime_ends_as_runtime_unavailable(
    own_stack: Callable[..., Stack], own_engine: tuple[str, Callable[..., Process]], only_python: list[str]
) -> None:
    url, start_engine = own_engine
    start_engine("--add-runtime", "broken=/bin/false")  # the engine knows its name, and cannot start it
    # Two attempts fail; a third failure would have the worker wait for its host to be mended.
    few = {"environments_dirs": only_python, "pool_sizes": {}, "max_attempts": 2}
    stack = own_stack(docker_url=url, standard_runtime="broken", **few).start()
    ended = stack.run(code="print(1)")
    assert (ended["state"], ended["reason"], ended["fault"]) == ("errored", "runtime_unavailable", "platform")
    assert ended["attempt"] == 2
    stack.workers[0].stop()  # while the engine still answers


def test_killed_workers_execution_ends_as_worker_lost(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(max_attempts=1).start()
    id = stack.submit(environment="python", code="import time; time.sleep(60)", limits={"wall_seconds": 90}).json()[
        "id"
    ]
    eventually(lambda: stack.show(id)["state"] == "running", "the execution runs")
    stack.workers[0].stop(signal.SIGKILL)
    assert _ended(stack, id) == ("errored", "worker_lost", "platform")
    assert stack.show(id)["message"] == "The worker was lost in each of 1 attempts."


def test_a_lost_worker_is_not_the_end_where_another_attempt_is_left(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=2)
    body: dict[str, Any] = {
        "environment": "python", "code": "print('here', flush=True)\ninput()\nprint('done')",
        "stdin": {"stream": True}, "limits": {"wall_seconds": 200},
    }  # fmt: skip
    ids = [stack.submit(**body).json()["id"] for _ in range(2)]
    eventually(lambda: all(stack.show(id)["stdout"] == "here\n" for id in ids), "both executions run")
    stack.workers[0].stop(signal.SIGKILL)
    for id in ids:  # each attempt gets the input again
        path = f"/api/v1/executions/{id}/stdin"
        assert stack.client.post(path, params={"end": "true"}, content=b"\n").status_code == 202
    assert [_ended(stack, id)[0] for id in ids] == ["succeeded", "succeeded"]
    assert [stack.show(id)["stdout"] for id in ids] == ["here\ndone\n", "here\ndone\n"]


def test_execution_without_worker_ends_as_queue_expired(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(queue_seconds=0.5).start(workers=0)
    id = stack.submit(environment="python", code="print(1)").json()["id"]
    assert _ended(stack, id) == ("errored", "queue_expired", "platform")
    empty = {"high": 0, "default": 0, "low": 0}
    eventually(lambda: stack.client.get("/api/v1/queues").json()["queues"] == empty, "the queue is empty")


def test_specification_changed_in_redis_ends_as_internal(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=0)
    id = stack.submit(environment="python", code="print('mine')").json()["id"]
    redis = stack.redis.client()
    spec = redis.hget(f"mayfly:execution:{id}", "spec")
    assert isinstance(spec, bytes)
    redis.hset(f"mayfly:execution:{id}", "spec", spec.replace(b"mine", b"evil"))
    redis.close()
    stack.start_worker()
    stack.ready()
    assert _ended(stack, id) == ("errored", "internal", "platform")
    assert stack.show(id)["message"] == "The seal of the stored specification is invalid; the program was not run."


def test_cancelled_by_user_and_by_operator(stack: Stack) -> None:
    for tenant, reason in (("default", "cancelled_by_user"), ("elsewhere", "cancelled_by_operator")):
        headers = stack.headers_of(tenant, "executions:write", "executions:read")
        body = {"environment": "python", "code": "import time; time.sleep(60)", "limits": {"wall_seconds": 90}}
        id = stack.client.post("/api/v1/executions", json=body, headers=headers).json()["id"]

        def shown(wait: int = 0, id: str = id, headers: dict[str, str] = headers) -> dict[str, Any]:
            answer = stack.client.get(f"/api/v1/executions/{id}", params={"wait": wait}, headers=headers)
            found: dict[str, Any] = answer.json()
            return found

        eventually(lambda: shown()["state"] == "running", "the execution runs")
        assert stack.client.post(f"/api/v1/executions/{id}/cancel").status_code == 202  # by the admin's key
        ended = shown(60)
        assert ("cancelled", reason, None) == (ended["state"], ended["reason"], ended["fault"])


def test_no_reason_is_missing_here() -> None:
    assert set(Reason) == {Reason(case[3]) for case in PROGRAMS if case[3]} | FAULTS
    assert {case[4] for case in PROGRAMS if case[4]} | {"platform"} == set(Fault)
