"""What goes away comes back: Redis, the engine, a worker; and a flood is taken in order."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.harness import Process, Stack, eventually

SLOW = "import time\nprint('begun', flush=True)\ntime.sleep({seconds})\nprint('done')"


def test_redis_away_and_back(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    before = stack.run(code="print('before')")
    stack.redis.stop(signal.SIGKILL)
    answer = stack.submit(environment="python", code="print(1)")
    assert (503, "store_unavailable") == (answer.status_code, answer.json()["code"])
    assert int(answer.headers["Retry-After"]) > 0
    ready = stack.client.get("/readyz")
    assert ready.status_code == 503
    assert stack.client.get("/livez").status_code == 200
    stack.redis.start()
    stack.ready()
    assert stack.show(before["id"])["stdout"] == "before\n"
    assert stack.run(code="print('after')")["stdout"] == "after\n"


def test_redis_away_while_a_program_runs(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(lease_seconds=10).start()
    id = stack.submit(environment="python", code=SLOW.format(seconds=3)).json()["id"]
    eventually(lambda: stack.show(id)["state"] == "running", "it runs")
    stack.redis.stop(signal.SIGKILL)
    eventually(lambda: stack.client.get("/readyz").status_code == 503, "the API notices")
    stack.redis.start()
    stack.ready()
    ended = eventually(lambda: (shown := stack.show(id, wait=30))["finished_at"] and shown, "it ends", 60)
    assert ("succeeded", "begun\ndone\n", 1) == (ended["state"], ended["stdout"], ended["attempt"])


@pytest.fixture
def own_engine(engine: str, tmp_path: Path) -> Iterator[tuple[str, Callable[[], Process]]]:
    """A container engine of the test's own: its URL, and what starts it (again)."""
    socket = tmp_path / "engine.sock"
    started: list[Process] = []

    def start() -> Process:
        for stale in (tmp_path / "engine.pid", socket):
            stale.unlink(missing_ok=True)
        command = [
            "dockerd", "--host", f"unix://{socket}", "--data-root", str(tmp_path / "data"), "--exec-root",
            str(tmp_path / "exec"), "--pidfile", str(tmp_path / "engine.pid"), "--bridge", "none", "--iptables=false",
        ]  # fmt: skip
        process = Process(command, {}, tmp_path / "engine.log")
        started.append(process)
        eventually(lambda: _pings(socket), "the engine answers", 60)
        return process

    yield f"unix://{socket}", start
    for process in started:
        process.stop(signal.SIGTERM, 60)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        mount = line.split()[1]
        if mount.startswith(str(tmp_path)):
            os.system(f"umount {mount}")


def _pings(socket: Path) -> bool:
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(socket))) as client:
        try:
            return client.get("http://engine/_ping", timeout=2).status_code == 200
        except httpx2.TransportError:
            return False


def _end_engine(process: Process) -> None:
    """Kill an engine and everything it started, as a crash of the host would."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.stop(signal.SIGKILL)
    for child in children:
        if child.is_running():
            child.kill()
    psutil.wait_procs(children, 10)


def test_engine_away_and_back(
    own_stack: Callable[..., Stack], own_engine: tuple[str, Callable[[], Process]]
) -> None:
    url, start_engine = own_engine
    engine = start_engine()
    stack = own_stack(docker_url=url).start()
    running = stack.submit(environment="python", code=SLOW.format(seconds=4)).json()["id"]
    eventually(lambda: stack.show(running)["state"] == "running", "it runs")
    _end_engine(engine)
    eventually(lambda: stack.fleet()[0]["engine"] == "unavailable", "the worker says so", 30)
    assert stack.client.get("/readyz").status_code == 503
    waiting = stack.submit(environment="python", code="print('waited')").json()["id"]
    assert stack.show(waiting, wait=2)["state"] == "queued"
    engine = start_engine()
    stack.ready()
    ended = stack.show(waiting, wait=60)
    assert ("succeeded", "waited\n") == (ended["state"], ended["stdout"])
    again = stack.show(running, wait=60)
    assert ("succeeded", "begun\ndone\n", 2) == (again["state"], again["stdout"], again["attempt"])
    stack.workers[0].stop()


def test_a_killed_worker_leaves_nothing(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=2)
    ids = [stack.submit(environment="python", code=SLOW.format(seconds=2)).json()["id"] for _ in range(4)]
    eventually(lambda: all(stack.show(id)["state"] == "running" for id in ids), "all run", 30)
    dead, alive = stack.workers
    name = next(worker["id"] for worker in stack.fleet() if f"-{dead.pid}-" in worker["id"])
    began = time.monotonic()
    dead.stop(signal.SIGKILL)
    eventually(lambda: not any(name in container for container in stack.containers()), "its containers are gone", 15)
    assert time.monotonic() - began < 10
    assert [stack.show(id, wait=60)["state"] for id in ids] == ["succeeded"] * 4
    assert alive.popen.poll() is None


def test_sigterm_finishes_what_runs(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    id = stack.submit(environment="python", code=SLOW.format(seconds=1)).json()["id"]
    eventually(lambda: stack.show(id)["state"] == "running", "it runs")
    assert stack.workers[0].stop() == 0
    ended = stack.show(id)
    assert ("succeeded", "begun\ndone\n", 1) == (ended["state"], ended["stdout"], ended["attempt"])
    assert stack.containers() == []
    assert stack.fleet() == []


def test_a_drained_worker_takes_no_more(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    worker = stack.fleet()[0]["id"]
    assert stack.client.post(f"/api/v1/workers/{worker}/drain").status_code == 202
    eventually(lambda: stack.fleet()[0]["draining"], "it drains")
    eventually(lambda: stack.submit(1, environment="python", code="print(1)").status_code == 202, "nobody takes it")
    assert stack.client.post("/api/v1/workers/nobody/drain").json()["code"] == "not_found"


def test_five_hundred_at_once(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start(workers=0)
    priorities = ("low", "default", "high")
    ids: dict[str, list[str]] = {priority: [] for priority in priorities}
    for start in range(0, 500, 100):
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
    eventually(lambda: stack.client.get("/api/v1/queues").json()["queued"] < 400, "a fifth has begun", 120)
    early = [process.memory_info().rss for process in processes]
    eventually(lambda: stack.client.get("/api/v1/queues").json()["queued"] == 0, "all have begun", 280)
    late = [process.memory_info().rss for process in processes]
    ended: dict[str, list[Any]] = {p: [stack.show(id, wait=60) for id in ids[p]] for p in priorities}
    for priority in priorities:
        assert {"succeeded"} == {execution["state"] for execution in ended[priority]}
        number = priorities.index(priority)
        assert [f"{n}\n" for n in range(number, 500, 3)] == [execution["stdout"] for execution in ended[priority]]
    begun = {p: sorted(execution["started_at"] for execution in ended[p]) for p in priorities}
    slots = 2 * (os.cpu_count() or 1)  # as many may be on their way at once, and overtake each other
    assert begun["high"][-1] < begun["default"][slots]
    assert begun["default"][-1] < begun["low"][slots]
    for before, after in zip(early, late, strict=True):
        assert after < before * 1.25 + 8 * 2**20, f"{before} → {after} bytes"
