"""Recovery from outages of Redis, the engine and a worker; and a flood is run in order."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil

from orchestrator import __version__
from orchestrator.store import keys
from tests.harness import LONG_LEASE_SECONDS, Process, Stack, eventually

FLOOD = 120  # executions
# A program that waits for its input, which each attempt gets again.
WAITING: dict[str, Any] = {
    "environment": "python",
    "code": "print('begun', flush=True)\ninput()\nprint('done')",
    "stdin": {"stream": True},
    "limits": {"wall_seconds": 200},
}


def waiting(stack: Stack, **more: Any) -> str:
    """Submit a program that waits for its input, and wait until it runs."""
    id = submitted(stack, **more)
    eventually(lambda: stack.show(id)["stdout"] == "begun\n", "the execution runs")
    return id


def submitted(stack: Stack, **more: Any) -> str:
    answer = stack.submit(**WAITING, **more)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def go_on(stack: Stack, id: str) -> None:
    """Let the program end."""
    answer = stack.client.post(f"/api/v1/executions/{id}/stdin", params={"end": "true"}, content=b"\n")
    assert answer.status_code == 202, answer.text


def test_redis_away_and_back(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    before = stack.run(code="print('before')")
    stack.redis.stop(signal.SIGKILL)
    answer = stack.submit(environment="python", code="print(1)")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    ready = stack.client.get("/readyz")
    assert ready.status_code == 503
    assert stack.client.get("/livez").status_code == 200
    stack.redis.start()
    stack.ready()
    assert stack.show(before["id"])["stdout"] == "before\n"
    assert stack.run(code="print('after')")["stdout"] == "after\n"


def test_redis_away_while_a_program_runs(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(lease_seconds=30).start()
    id = waiting(stack)
    stack.redis.stop(signal.SIGKILL)
    eventually(lambda: stack.client.get("/readyz").status_code == 503, "the API notices")
    stack.redis.start()
    stack.ready()
    go_on(stack, id)
    ended = stack.ended(id)
    assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "begun\ndone\n", 1)


def _end_engine(process: Process) -> None:
    """Kill an engine and everything it started, as a crash of the host would."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.stop(signal.SIGKILL)
    for child in children:
        if child.is_running():
            child.kill()
    psutil.wait_procs(children, 10)


def test_worker_resumes_after_engine_outage(
    own_stack: Callable[..., Stack], own_engine: tuple[str, Callable[..., Process]], only_python: list[str]
) -> None:
    url, start_engine = own_engine
    engine = start_engine()
    stack = own_stack(docker_url=url, environments_dirs=only_python).start()
    running = waiting(stack)
    _end_engine(engine)
    eventually(lambda: stack.reported("engine") == ["unavailable"], "the worker reports the outage", 60)
    assert stack.client.get("/readyz").status_code == 503
    queued = stack.submit(environment="python", code="print('waited')").json()["id"]
    assert stack.show(queued, wait=2)["state"] == "queued"
    engine = start_engine()
    stack.ready()
    ended = stack.ended(queued)
    assert (ended["state"], ended["stdout"]) == ("succeeded", "waited\n")
    go_on(stack, running)
    again = stack.ended(running)
    assert (again["state"], again["stdout"], again["attempt"]) == ("succeeded", "begun\ndone\n", 2)
    stack.workers[0].stop()  # while the engine still answers


def test_killed_worker_leaves_no_container(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=2)
    ids = [submitted(stack) for _ in range(4)]
    eventually(lambda: all(stack.show(id)["stdout"] == "begun\n" for id in ids), "every execution runs")
    dead, alive = stack.workers
    name = eventually(
        lambda: next((id for id in stack.reported("id") if f"-{dead.pid}-" in id), ""), "the worker is registered"
    )
    dead.stop(signal.SIGKILL)
    eventually(
        lambda: not any(name in container for container in stack.containers()),
        "the killed worker's containers are gone",
    )
    for id in ids:
        go_on(stack, id)
    assert [stack.ended(id)["state"] for id in ids] == ["succeeded"] * 4
    assert alive.popen.poll() is None


def test_sigterm_lets_running_executions_finish(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(lease_seconds=LONG_LEASE_SECONDS).start()
    id = waiting(stack)
    (worker,) = stack.workers
    worker.popen.send_signal(signal.SIGTERM)
    eventually(lambda: stack.reported("draining") == [True], "the worker drains")
    go_on(stack, id)
    assert worker.popen.wait(60) == 0
    ended = stack.show(id)
    assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "begun\ndone\n", 1)
    assert stack.containers() == []
    assert stack.fleet() == []


def test_signal_delivered_to_any_thread_drains_worker(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    stack.run(code="print('every thread has begun')")
    (worker,) = stack.workers
    others = {thread.id for thread in psutil.Process(worker.pid).threads()} - {worker.pid}
    # Some threads end by themselves; the signal is for one that is there.
    assert any(ctypes.CDLL(None).tgkill(worker.pid, other, signal.SIGTERM) == 0 for other in others)
    assert worker.popen.wait(60) == 0


def test_a_second_sigterm_hands_back_at_once(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(max_attempts=1).start()
    id = waiting(stack)
    (worker,) = stack.workers
    worker.popen.send_signal(signal.SIGTERM)
    eventually(lambda: stack.reported("draining") == [True], "the worker drains")
    assert worker.stop() == 0
    assert stack.containers() == []
    assert stack.show(id)["state"] == "queued"  # though its program would wait for minutes
    stack.start_worker()
    go_on(stack, id)
    ended = stack.ended(id)
    assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "begun\ndone\n", 2)


def test_a_drain_is_bounded(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(drain_seconds=1).start()
    once = waiting(stack, retry=False)
    assert stack.workers[0].stop() == 0
    ended = stack.show(once)
    assert (ended["state"], ended["reason"], ended["attempt"]) == ("errored", "worker_lost", 1)
    assert stack.containers() == []


def test_worker_cut_off_from_redis_ends_its_executions(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(lease_seconds=4).start()
    again, once = (waiting(stack, retry=retry) for retry in (True, False))
    running = set(stack.containers())
    stack.redis.stop(signal.SIGKILL)
    eventually(lambda: len(running & set(stack.containers())) <= 1, "at most one container, a waiting one, is left")
    stack.redis.start()
    stack.ready()
    go_on(stack, again)
    ended = stack.ended(again)
    assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "begun\ndone\n", 2)
    ended = stack.ended(once)
    assert (ended["state"], ended["reason"], ended["attempt"]) == ("errored", "worker_lost", 1)
    assert stack.worker_metrics()["mayfly_worker_leases_lost_total"] == 1.0


def test_worker_stopped_for_longer_than_its_lease(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(lease_seconds=4).start(workers=2)
    id = waiting(stack)
    owner = eventually(
        lambda: next((worker["id"] for worker in stack.fleet() if id in worker["executions"]), ""),
        "a worker reports the execution as its own",
    )
    (frozen,) = (worker for worker in stack.workers if f"-{worker.pid}-" in owner)
    frozen.popen.send_signal(signal.SIGSTOP)
    try:
        eventually(
            lambda: not any(owner in name for name in stack.containers()), "the other worker removes the container"
        )
    finally:
        frozen.popen.send_signal(signal.SIGCONT)  # and sees how its container ended
    go_on(stack, id)
    ended = stack.ended(id)
    assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "begun\ndone\n", 2)
    eventually(lambda: len(stack.fleet()) == 2, "the stopped worker is registered again")


def mayfly(stack: Stack, *words: str) -> str:
    """Run the command and return its output."""
    command = [sys.executable, "-m", "orchestrator.cli", *words]
    done = subprocess.run(command, env={**os.environ, **stack.env}, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_drained_worker_takes_no_more_until_the_drain_is_undone(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(slots=2, lease_seconds=LONG_LEASE_SECONDS).start()
    (worker,) = stack.reported("id")
    running = waiting(stack)
    eventually(stack.waiting, "a warm container waits")
    assert mayfly(stack, "workers", "drain", worker) == f"{worker} is draining\n"
    eventually(lambda: stack.reported("draining") == [True], "the worker drains")
    eventually(lambda: stack.waiting() == 0, "its warm containers are removed")
    refused = eventually(
        lambda: (answer := stack.submit(1, environment="python", code="print(1)")).status_code == 202 and answer,
        "no worker takes the execution",
    )
    queued = refused.json()["id"]
    assert stack.show(running)["state"] == "running"
    go_on(stack, running)
    assert mayfly(stack, "workers", "drain", "--wait", worker) == f"{worker} is drained\n"
    ended = stack.show(running)
    assert (ended["state"], ended["attempt"]) == ("succeeded", 1)
    assert stack.show(queued)["state"] == "queued"
    columns = mayfly(stack, "workers", "list").strip().split("\t")
    assert columns[:6] == [worker, socket.gethostname(), __version__, "2", "0", "0"]
    assert (columns[7], "python" in columns[10]) == ("drained", True)
    assert mayfly(stack, "workers", "drain", "--undo", worker) == f"{worker} takes executions again\n"
    assert stack.show(queued, wait=60)["state"] == "succeeded"
    eventually(stack.waiting, "the pool is filled again")
    entries = stack.client.get("/api/v1/audit", params={"limit": 1000}).json()["items"]
    changes = [entry["action"] for entry in entries if entry.get("resource") == f"worker/{worker}"]
    assert changes == ["fleet.drain", "fleet.drain", "fleet.undrain"]


def test_a_restart_ends_a_drain(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    (worker,) = stack.reported("id")
    assert stack.client.post(f"/api/v1/workers/{worker}/drain").status_code == 202
    eventually(lambda: stack.reported("draining") == [True], "the worker drains")
    with stack.redis.client() as redis:
        redis.delete(keys.worker(worker))  # as if its lease had ended
        eventually(lambda: redis.hexists(keys.worker(worker), "drain"), "the worker repeats the request")
    queued = stack.submit(environment="python", code="print(1)").json()["id"]
    assert stack.workers[0].stop() == 0
    stack.start_worker()
    eventually(lambda: stack.show(queued)["state"] == "succeeded", "the new worker takes executions", 120)
    assert stack.client.post(f"/api/v1/workers/{worker}/drain").json()["code"] == "not_found"


def test_flood_of_executions_runs_in_order(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(lease_seconds=LONG_LEASE_SECONDS).start(workers=0)
    priorities = ("low", "default", "high")
    ids: dict[str, list[str]] = {priority: [] for priority in priorities}
    for start in range(0, FLOOD, FLOOD // 2):
        batch = [
            {"environment": "python", "code": f"print({n})", "priority": priorities[n % 3]}
            for n in range(start, start + FLOOD // 2)
        ]
        for n, item in enumerate(stack.client.post("/api/v1/executions/batch", json={"executions": batch}).json()):
            assert item["status"] == 202, item
            ids[priorities[(start + n) % 3]].append(item["execution"]["id"])
    stack.start_worker()
    stack.ready()
    processes = [psutil.Process(stack.workers[0].pid), psutil.Process(stack.api.pid)]  # type: ignore[union-attr]
    eventually(lambda: stack.client.get("/api/v1/queues").json()["queued"] < FLOOD * 4 / 5, "a fifth have begun", 120)
    early = [process.memory_info().rss for process in processes]
    eventually(lambda: stack.client.get("/api/v1/queues").json()["queued"] == 0, "every execution has begun", 280)
    late = [process.memory_info().rss for process in processes]
    ended: dict[str, list[Any]] = {p: [stack.ended(id) for id in ids[p]] for p in priorities}
    for priority in priorities:
        assert {"succeeded"} == {execution["state"] for execution in ended[priority]}
        number = priorities.index(priority)
        assert [f"{n}\n" for n in range(number, FLOOD, 3)] == [execution["stdout"] for execution in ended[priority]]
    begun = {p: sorted(execution["started_at"] for execution in ended[p]) for p in priorities}
    slots = 2 * (os.cpu_count() or 1)  # as many may be on their way at once, and overtake each other
    assert begun["high"][-1] < begun["default"][slots]
    assert begun["default"][-1] < begun["low"][slots]
    for before, after in zip(early, late, strict=True):
        assert after < before * 1.25 + 8 * 2**20, f"{before} → {after} bytes"
