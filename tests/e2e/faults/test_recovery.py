"""Recovery from outages of Redis, the engine and a worker; and a flood is run in order."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil

from tests.harness import Process, Stack, eventually

SLOW = "import time\nprint('begun', flush=True)\ntime.sleep({seconds})\nprint('done')"


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
    id = stack.submit(environment="python", code=SLOW.format(seconds=3)).json()["id"]
    eventually(lambda: stack.show(id)["state"] == "running", "the execution runs")
    stack.redis.stop(signal.SIGKILL)
    eventually(lambda: stack.client.get("/readyz").status_code == 503, "the API notices")
    stack.redis.start()
    stack.ready()
    ended = eventually(lambda: (shown := stack.show(id, wait=30))["finished_at"] and shown, "the execution ends", 60)
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
    running = stack.submit(environment="python", code=SLOW.format(seconds=4)).json()["id"]
    eventually(lambda: stack.show(running)["state"] == "running", "the execution runs")
    _end_engine(engine)
    eventually(lambda: stack.fleet()[0]["engine"] == "unavailable", "the worker reports the outage", 30)
    assert stack.client.get("/readyz").status_code == 503
    waiting = stack.submit(environment="python", code="print('waited')").json()["id"]
    assert stack.show(waiting, wait=2)["state"] == "queued"
    engine = start_engine()
    stack.ready()
    ended = stack.show(waiting, wait=60)
    assert (ended["state"], ended["stdout"]) == ("succeeded", "waited\n")
    again = stack.show(running, wait=60)
    assert (again["state"], again["stdout"], again["attempt"]) == ("succeeded", "begun\ndone\n", 2)
    stack.workers[0].stop()  # while the engine still answers


def test_killed_worker_leaves_no_container(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=2)
    ids = [stack.submit(environment="python", code=SLOW.format(seconds=2)).json()["id"] for _ in range(4)]
    eventually(lambda: all(stack.show(id)["state"] == "running" for id in ids), "every execution runs", 30)
    dead, alive = stack.workers
    name = next(worker["id"] for worker in stack.fleet() if f"-{dead.pid}-" in worker["id"])
    began = time.monotonic()
    dead.stop(signal.SIGKILL)
    eventually(
        lambda: not any(name in container for container in stack.containers()),
        "the killed worker's containers are gone",
        15,
    )
    assert time.monotonic() - began < 10
    assert [stack.show(id, wait=60)["state"] for id in ids] == ["succeeded"] * 4
    assert alive.popen.poll() is None


def test_sigterm_lets_running_executions_finish(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    id = stack.submit(environment="python", code=SLOW.format(seconds=1)).json()["id"]
    eventually(lambda: stack.show(id)["state"] == "running", "the execution runs")
    assert stack.workers[0].stop() == 0
    ended = stack.show(id)
    assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "begun\ndone\n", 1)
    assert stack.containers() == []
    assert stack.fleet() == []


def test_signal_delivered_to_any_thread_drains_worker(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    stack.run(code="print('every thread has begun')")
    (worker,) = stack.workers
    main, *others = (thread.id for thread in psutil.Process(worker.pid).threads())
    assert main == worker.pid
    assert ctypes.CDLL(None).tgkill(worker.pid, others[-1], signal.SIGTERM) == 0
    assert worker.popen.wait(20) == 0


def test_a_second_sigterm_hands_back_at_once(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(max_attempts=1).start()
    id = stack.submit(environment="python", code=SLOW.format(seconds=8), limits={"wall_seconds": 30}).json()["id"]
    eventually(lambda: stack.show(id)["state"] == "running", "the execution runs")
    (worker,) = stack.workers
    worker.popen.send_signal(signal.SIGTERM)
    eventually(lambda: stack.fleet()[0]["draining"], "the worker drains")
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 6
    assert stack.containers() == []
    assert stack.show(id)["state"] == "queued"
    stack.start_worker()
    ended = stack.show(id, wait=30)
    assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "begun\ndone\n", 2)


def test_a_drain_is_bounded(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(drain_seconds=1).start()
    long: dict[str, Any] = {"environment": "python", "code": SLOW.format(seconds=60), "limits": {"wall_seconds": 90}}
    once = stack.submit(**long, retry=False).json()["id"]
    eventually(lambda: stack.show(once)["state"] == "running", "the execution runs")
    began = time.monotonic()
    assert stack.workers[0].stop() == 0
    assert time.monotonic() - began < 10
    ended = stack.show(once)
    assert (ended["state"], ended["reason"], ended["attempt"]) == ("errored", "worker_lost", 1)
    assert stack.containers() == []


def test_worker_cut_off_from_redis_ends_its_executions(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(lease_seconds=2).start()
    ids = [
        stack.submit(environment="python", code=SLOW.format(seconds=8), limits={"wall_seconds": 30}, retry=retry)
        for retry in (True, False)
    ]
    again, once = (answer.json()["id"] for answer in ids)
    eventually(lambda: all(stack.show(id)["state"] == "running" for id in (again, once)), "both executions run")
    running = set(stack.containers())
    stack.redis.stop(signal.SIGKILL)
    began = time.monotonic()
    eventually(lambda: len(running & set(stack.containers())) <= 1, "at most one container, a waiting one, is left", 8)
    assert time.monotonic() - began < 7  # they would have run for longer
    stack.redis.start()
    stack.ready()
    ended = stack.show(again, wait=60)
    assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "begun\ndone\n", 2)
    ended = stack.show(once, wait=30)
    assert (ended["state"], ended["reason"], ended["attempt"]) == ("errored", "worker_lost", 1)
    assert stack.worker_metrics()["mayfly_worker_leases_lost_total"] == 1.0


def test_worker_stopped_for_longer_than_its_lease(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(lease_seconds=2).start(workers=2)
    id = stack.submit(environment="python", code=SLOW.format(seconds=3), limits={"wall_seconds": 30}).json()["id"]
    eventually(lambda: stack.show(id)["state"] == "running", "the execution runs")
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
    ended = stack.show(id, wait=30)
    assert (ended["state"], ended["stdout"], ended["attempt"]) == ("succeeded", "begun\ndone\n", 2)
    eventually(lambda: len(stack.fleet()) == 2, "the stopped worker is registered again")


def test_a_drained_worker_takes_no_more(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    worker = stack.fleet()[0]["id"]
    assert stack.client.post(f"/api/v1/workers/{worker}/drain").status_code == 202
    eventually(lambda: stack.fleet()[0]["draining"], "the worker drains")
    eventually(
        lambda: stack.submit(1, environment="python", code="print(1)").status_code == 202,
        "no worker takes the execution",
    )
    assert stack.client.post("/api/v1/workers/nobody/drain").json()["code"] == "not_found"


def test_three_hundred_concurrent_executions_run_in_order(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=0)
    priorities = ("low", "default", "high")
    ids: dict[str, list[str]] = {priority: [] for priority in priorities}
    for start in range(0, 300, 100):
        batch = [
            {"environment": "python", "code": f"print({n})", "priority": priorities[n % 3]}
            for n in range(start, start + 100)
        ]
        for n, item in enumerate(stack.client.post("/api/v1/executions/batch", json={"executions": batch}).json()):
            assert item["status"] == 202, item
            ids[priorities[(start + n) % 3]].append(item["execution"]["id"])
    stack.start_worker()
    stack.ready()
    processes = [psutil.Process(stack.workers[0].pid), psutil.Process(stack.api.pid)]  # type: ignore[union-attr]
    eventually(
        lambda: stack.client.get("/api/v1/queues").json()["queued"] < 240, "a fifth of the executions have begun", 120
    )
    early = [process.memory_info().rss for process in processes]
    eventually(lambda: stack.client.get("/api/v1/queues").json()["queued"] == 0, "every execution has begun", 280)
    late = [process.memory_info().rss for process in processes]
    ended: dict[str, list[Any]] = {p: [stack.show(id, wait=60) for id in ids[p]] for p in priorities}
    for priority in priorities:
        assert {"succeeded"} == {execution["state"] for execution in ended[priority]}
        number = priorities.index(priority)
        assert [f"{n}\n" for n in range(number, 300, 3)] == [execution["stdout"] for execution in ended[priority]]
    begun = {p: sorted(execution["started_at"] for execution in ended[p]) for p in priorities}
    slots = 2 * (os.cpu_count() or 1)  # as many may be on their way at once, and overtake each other
    assert begun["high"][-1] < begun["default"][slots]
    assert begun["default"][-1] < begun["low"][slots]
    for before, after in zip(early, late, strict=True):
        assert after < before * 1.25 + 8 * 2**20, f"{before} → {after} bytes"
