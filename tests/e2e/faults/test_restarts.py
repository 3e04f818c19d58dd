"""Orderly restarts: a stopped process releases its clients, and no execution is lost or fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import httpx2
import pytest

from tests.builders.processes.sockets import await_read
from tests.e2e.faults.patient import patient_load
from tests.harness import Stack, bearer, eventually

LONG: dict[str, Any] = {
    "environment": "python",
    "code": "import time\nprint('begun', flush=True)\ntime.sleep(200)",
    "limits": {"wall_seconds": 250},
}


def asked(stack: Stack, path: str) -> HTTPConnection:
    """A request that the API has read; its answer comes later."""
    connection = HTTPConnection("127.0.0.1", stack.port, timeout=60)
    connection.request("GET", path, headers=bearer(stack.key))
    await_read(stack.port, [connection.sock])
    return connection


def test_api_shutdown_answers_waiting_requests(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(slots=2).start()
    id = stack.submit(**LONG).json()["id"]
    eventually(lambda: stack.show(id)["state"] == "running", "the execution runs")
    read: list[str] = []

    def follow() -> None:
        with stack.client.stream("GET", f"/api/v1/executions/{id}/stream") as answer:
            read.extend(answer.iter_lines())  # raises unless the server ends it in good order

    with ThreadPoolExecutor(2) as threads:
        following = threads.submit(follow)
        waiting = threads.submit(stack.submit, 60, **LONG)
        eventually(lambda: any("begun" in line for line in read), "the stream is live")
        eventually(lambda: stack.client.get("/api/v1/queues").json()["active"] == 2, "the worker has both executions")
        polling, events = (asked(stack, f"/api/v1/{path}?wait=60") for path in (f"executions/{id}", "security-events"))
        assert stack.api is not None
        stack.api.stop(seconds=40)  # though the requests would wait for 60
        following.result(30)
        assert json.load(polling.getresponse())["state"] == "running"
        answer = waiting.result(30)
        assert (answer.status_code, "preference-applied" in answer.headers) == (202, False)
        assert events.getresponse().status == 200
        polling.close()
        events.close()
    assert not any("done" in line for line in read)
    last = [line.removeprefix("id: ") for line in read if line.startswith("id: ")][-1]
    stack.start_api()
    for one in (id, answer.json()["id"]):
        assert stack.client.post(f"/api/v1/executions/{one}/cancel").status_code == 202
    with stack.client.stream("GET", f"/api/v1/executions/{id}/stream", headers={"Last-Event-ID": last}) as resumed:
        rest = list(resumed.iter_lines())
    assert any(line == "event: done" for line in rest)
    assert not any("begun" in line for line in rest)


@pytest.mark.parametrize("what", ["api", "worker"])
def test_rolling_restart_fails_no_execution(own_stack: Callable[..., Stack], what: str) -> None:
    stack = own_stack(slots=2).start(workers=2 if what == "worker" else 1)
    with patient_load(stack.env["MAYFLY_URL"], stack.key) as more:
        for _ in range(2):
            more(5)
            _restart(stack, what)
        more(5)
    assert stack.client.get("/api/v1/queues").json() == {
        "queues": {"high": 0, "default": 0, "low": 0}, "queued": 0, "active": 0
    }  # fmt: skip


def _restart(stack: Stack, what: str) -> None:
    if what == "api":
        assert stack.api is not None
        stack.api.stop()
        stack.start_api()
        return
    oldest = next(worker for worker in stack.workers if worker.popen.poll() is None)
    assert oldest.stop() == 0
    stack.start_worker()
    eventually(lambda: len(stack.fleet()) == 2, "the new worker is registered", 60)


def test_an_interrupted_connection_is_no_failure(own_stack: Callable[..., Stack]) -> None:
    """The negative control: with a server that is killed, a client without retries does see failures."""
    stack = own_stack().start(workers=0)
    waiting = ThreadPoolExecutor(1).submit(stack.submit, 60, environment="python", code="1")
    eventually(lambda: stack.client.get("/api/v1/queues").json()["queued"] == 1, "the execution is queued")
    assert stack.api is not None
    stack.api.popen.kill()
    with pytest.raises(httpx2.TransportError):
        waiting.result(60)
