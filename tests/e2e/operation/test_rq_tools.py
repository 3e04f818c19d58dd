"""RQ's own tools show the true queued and running jobs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.harness import Process, Stack, eventually, free_port

LONG: dict[str, Any] = {"environment": "bash", "code": "sleep 280", "limits": {"wall_seconds": 290}}
QUEUE = re.compile(r"queue (\S+) (\d+), (\d+) executing, (\d+) finished, (\d+) failed")
WORKER = re.compile(r"worker (\S+) \(.*\) (\w+) .*\. jobs: (\d+) finished, (\d+) failed")
EXPORTER = "rq-exporter==3.1.0"


@pytest.fixture
def busy(own_stack: Callable[..., Stack]) -> Iterator[Stack]:
    """One execution has ended, two run on one worker, three of two tenants wait."""
    stack = own_stack(slots=2, spare_slots=0, drain_seconds=0).start()
    stack.run(environment="bash", code="echo done")
    ids = [stack.submit(**LONG, priority=priority).json()["id"] for priority in ("high", "default", "low", "low")]
    eventually(lambda: stack.client.get("/api/v1/queues").json()["active"] == 2, "two executions run")
    other = stack.submit(**LONG, headers=stack.headers_of("other", "executions:write")).json()["id"]
    yield stack
    for id in (*ids, other):
        stack.client.post(f"/api/v1/executions/{id}/cancel")


def info(stack: Stack) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[str, ...]]]:
    """The figures of ``rq info``: jobs queued, started, finished and failed, of each queue and of each worker."""
    command = [str(Path(sys.executable).with_name("rq")), "info", "--raw", "--url", stack.redis.url]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    queues = {name: tuple(map(int, counts)) for name, *counts in QUEUE.findall(printed)}
    return queues, {name: tuple(rest) for name, *rest in WORKER.findall(printed)}


def test_rq_info_shows_queued_and_running_jobs(busy: Stack) -> None:
    (worker,) = (one["id"] for one in busy.fleet())
    expected = {
        "default:high": (0, 1, 0, 0),
        "default:default": (0, 1, 0, 0),
        "default:low": (2, 0, 0, 0),
        "other:default": (1, 0, 0, 0),
    }
    eventually(lambda: info(busy)[0] == expected, "RQ finds the jobs, and none of what has ended")
    eventually(lambda: info(busy)[1] == {worker: ("busy", "1", "0")}, "RQ finds the worker")
    queues = busy.client.get("/api/v1/queues").json()
    assert (queues["queued"], queues["active"]) == (3, 2)
    for one in busy.client.get("/api/v1/executions", params={"limit": 50}).json()["items"]:
        busy.client.post(f"/api/v1/executions/{one['id']}/cancel")
    eventually(lambda: info(busy)[0].keys() == {"other:default"}, "ended jobs are no longer listed")
    busy.workers[0].stop()
    assert info(busy)[1] == {}


@pytest.mark.complete
def test_rq_exporter_agrees_with_rq_info(busy: Stack, tmp_path: Path) -> None:
    """The exporter reads RQ's data with another release of RQ, in an environment of its own."""
    python = tmp_path / "exporter" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "exporter")], check=True, timeout=120)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", EXPORTER], check=True, timeout=200)
    port = free_port()
    command = [str(python.with_name("rq-exporter")), "--host", "127.0.0.1", "--port", str(port)]
    exporter = Process([*command, "--redis-url", busy.redis.url], {}, tmp_path / "exporter.log")
    try:
        found = eventually(lambda: scraped(port), "the exporter answers", 60)
        eventually(lambda: worker_figures(port) == [("busy", 1.0)], "the exporter finds the worker")
        assert [value for name, value in scraped(port).items() if name.startswith("rq_workers_success_total{")] == [1.0]
    finally:
        exporter.stop()
    jobs = {(queue, status): found[f'rq_jobs{{queue="{queue}",status="{status}"}}'] for queue, status in JOBS}
    assert jobs == JOBS


JOBS: dict[tuple[str, str], Any] = {
    ("default:high", "started"): 1.0,
    ("default:default", "started"): 1.0,
    ("default:low", "queued"): 2.0,
    ("default:low", "started"): 0.0,
    ("other:default", "queued"): 1.0,
    ("other:default", "failed"): 0.0,
}


def worker_figures(port: int) -> list[tuple[str, float]]:
    """The state of each worker, and how many there are of that name: one."""
    found = ((re.search(r'^rq_workers{.*state="(\w+)"', name), value) for name, value in scraped(port).items())
    return [(match[1], value) for match, value in found if match]


def scraped(port: int) -> dict[str, float]:
    try:
        text = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    except httpx2.TransportError:
        return {}
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
