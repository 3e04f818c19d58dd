"""A running installation during a migration: concerned processes stop in good order, wait, and begin anew."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx2
import pytest

from orchestrator.api.door.connections import MAX_HEADERS
from orchestrator.settings import Settings
from orchestrator.store import open_store
from orchestrator.store.platform.schema import NUMBER, Schema
from tests.builders.processes.sockets import exchange
from tests.harness import Stack, eventually


@pytest.fixture
def stack(own_stack: Callable[..., Stack]) -> Stack:
    return own_stack(driver="oci", slots=1, drain_seconds=250).start()


def pids(stack: Stack) -> list[int]:
    assert stack.api is not None
    assert [process.popen.poll() for process in (stack.api, *stack.workers)] == [None, None]
    return [stack.api.pid, *(worker.pid for worker in stack.workers)]


def kinds(schema: Schema) -> set[str]:
    return {process.kind for process in schema.state().processes}


def test_processes_wait_during_a_migration_and_run_queued_executions(stack: Stack) -> None:
    store = open_store(Settings(redis_url=stack.redis.url))
    with closing(store.redis):
        schema = store.schema
        eventually(lambda: kinds(schema) == {"api", "worker"}, "API and worker have leases")
        before = pids(stack)
        code = "print('begun', flush=True); input()"
        limits = {"wall_seconds": 250}
        running = stack.submit(environment="python", code=code, stdin={"stream": True}, limits=limits).json()
        eventually(lambda: stack.show(running["id"])["stdout"] == "begun\n", "the program runs")
        queued = stack.submit(environment="python", code="print(2)").json()
        schema.begin(NUMBER, NUMBER + 1, 0, ("worker",))
        eventually(lambda: "draining" in stack.workers[0].log.read_text(), "the worker drains")
        assert stack.client.get("/api/v1/queues").status_code == 200, "this migration does not concern the API"
        stack.client.post(
            f"/api/v1/executions/{running['id']}/stdin?offset=0&end=true", content=b"\n"
        ).raise_for_status()
        assert stack.ended(running["id"])["state"] == "succeeded", "a running execution ends before"
        eventually(lambda: kinds(schema) == {"api"}, "the worker has stopped")
        schema.begin(NUMBER, NUMBER + 1, 0, ("worker", "api"))
        refused = eventually(lambda: migrating(stack), "the API waits")
        assert refused["code"] == "migrating"
        assert refused["checks"]["migrating"] == refused["detail"]
        endless = exchange(stack.port, b"GET /readyz HTTP/1.1\r\n" + b"X-A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n")
        assert (endless.status, endless.problem["code"]) == (431, "headers_too_large"), "it has the API's bounds"
        assert stack.answers("/livez")
        assert not stack.answers("/readyz")
        eventually(lambda: kinds(schema) == set(), "no process has a lease")
        assert pids(stack) == before, "no supervisor sees an end"
        schema.end(NUMBER)
        stack.ready()
        ended = stack.ended(queued["id"])
        assert (ended["state"], ended["stdout"]) == ("succeeded", "2\n")
        assert pids(stack) == before


def migrating(stack: Stack) -> dict[str, Any] | None:
    """The refusal of a call, once the API waits."""
    try:
        answer = stack.client.get("/api/v1/queues")
    except httpx2.TransportError:  # between two servers
        return None
    return answer.json() if answer.status_code == 503 else None
