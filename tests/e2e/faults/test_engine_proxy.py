"""A worker behind an engine proxy, and the end of that proxy."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness import Process, Stack, eventually

# A program that waits for its input, which each attempt gets again.
WAITING: dict[str, Any] = {
    "environment": "python",
    "code": "print('begun', flush=True)\ninput()\nprint('done')",
    "stdin": {"stream": True},
    "limits": {"wall_seconds": 200},
}


@pytest.fixture
def proxies() -> Iterator[list[Process]]:
    """Processes of proxies, which end after the stack."""
    made: list[Process] = []
    yield made
    for process in made:
        process.stop()


def test_executions_survive_a_killed_engine_proxy(proxies: list[Process], own_stack: Callable[..., Stack]) -> None:
    """Its containers' streams end; the executions are repeated when a proxy is there again."""
    stack = own_stack(engine_proxy="true", engine_metrics_port="0", slots=1)
    address = stack.directory / "state" / "engine.sock"

    def start() -> None:
        address.unlink(missing_ok=True)
        command = [sys.executable, "-m", "worker.engine_proxy"]
        proxies.append(Process(command, stack.env, stack.directory / "engine-proxy.log"))
        eventually(address.exists, "the proxy listens")

    start()
    stack.start()
    assert stack.run(code="print(6 * 7)")["stdout"] == "42\n"
    id = stack.submit(**WAITING).json()["id"]
    eventually(lambda: "begun" in (stack.show(id)["stdout"] or ""), "the program runs", 60)
    proxies[-1].stop(signal.SIGKILL)
    start()
    answer = stack.client.post(f"/api/v1/executions/{id}/stdin", params={"end": "true"}, content=b"\n")
    assert answer.status_code == 202, answer.text
    ended = eventually(lambda: (found := stack.show(id, wait=5))["finished_at"] and found, "the execution ends", 120)
    assert (ended["state"], ended["stdout"], ended["attempt"] > 1) == ("succeeded", "begun\ndone\n", True)
    assert stack.run(code="print(6 * 7)")["stdout"] == "42\n"
    log = (stack.directory / "engine-proxy.log").read_text()
    assert "engine_call.refused" not in log, "a worker makes no other calls"
