"""Malformed data of a client with Redis's password ends no thread of a worker: genuine executions still run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from orchestrator.store import keys
from tests.builders.sandboxes.pauses import Pause
from tests.harness import Stack, eventually

LONG: dict[str, Any] = {"environment": "python", "code": "print('begun', flush=True)\nimport time\ntime.sleep(50)"}
MESSAGES = (b"\xff\xfe", b"", b"\x00" * 1000, b"x" * 2**20, b'{"id": 1}', b"0" * 32)


@pytest.fixture
def attacked(own_stack: Callable[..., Stack]) -> Iterator[tuple[Stack, Any]]:
    """A stack, and a client with the password of its Redis."""
    stack = own_stack(slots=2).start()
    with stack.redis.client() as writer:
        yield stack, writer


def active(writer: Any) -> list[bytes]:
    """Ids of what workers have."""
    found: list[bytes] = writer.zrange(keys.ACTIVE, 0, -1)
    return found


def fleet(stack: Stack) -> list[str]:
    """Ids of the workers in the API's answer; none while the API refuses."""
    answer = stack.client.get("/api/v1/workers")
    assert answer.status_code in (200, 503), answer.text
    return [worker["id"] for worker in answer.json().get("items", ())]


def running(stack: Stack) -> str:
    id: str = stack.submit(**LONG, limits={"wall_seconds": 60}).json()["id"]
    eventually(lambda: stack.show(id)["stdout"] == "begun\n", "the execution runs")
    return id


def cancels_at_once(stack: Stack) -> None:
    """The listener receives a cancellation; the fallback, a fifth of a lease later, is disabled."""
    id = running(stack)
    assert stack.client.post(f"/api/v1/executions/{id}/cancel").status_code == 202
    assert stack.show(id, wait=60)["reason"] == "cancelled_by_user"


def test_malformed_messages_do_not_end_the_listener(own_stack: Callable[..., Stack]) -> None:
    """With a lease of 500 s only the listener can receive a cancellation within a minute."""
    stack = own_stack(slots=2, lease_seconds=500).start()
    with stack.redis.client() as writer:
        (worker,) = stack.fleet()
        for channel in (keys.CANCEL, keys.stdin_wake(worker["id"])):
            eventually(partial(writer.publish, channel, "0" * 32), "the worker is subscribed")
        for channel in (keys.CANCEL, keys.stdin_wake(worker["id"])):
            for message in MESSAGES:
                assert writer.publish(channel, message) == 1
        metric = 'mayfly_store_malformed_total{what="cancel message"}'
        eventually(lambda: stack.worker_metrics().get(metric) == 5, "the malformed messages are counted")
        cancels_at_once(stack)


def test_malformed_keys_end_no_thread_of_a_worker(attacked: tuple[Stack, Any]) -> None:
    stack, writer = attacked
    (worker,) = stack.fleet()
    id = running(stack)
    for status in (b"\xff", b"{", b"[]", json.dumps({"id": worker["id"]})):
        writer.hset(keys.worker(worker["id"]), "status", status)
        eventually(lambda: fleet(stack) == [worker["id"]], "the worker's next heartbeat is whole")
    for key in (keys.worker(worker["id"]), keys.WORKERS):
        writer.set(key, b"\xff")
        eventually(lambda: fleet(stack) == [worker["id"]], "the worker's next heartbeat is whole")
    writer.sadd(keys.WORKERS, b"\xff\xfe", "nobody")
    for name, value in (("cancel_reason", b"\xff"), ("created_at", b"never"), ("handed_back", b"-")):
        writer.hset(keys.execution(id), name, value)
    for line in (keys.line("standard"), keys.line("hardened")):
        writer.zadd(line, {b"\xff\xfe": 0, b"../../x": 0})
    writer.lpush("rq:queue:default:default", b"\xff\xfe", b"../x")
    writer.set("rq:queue:default:high", b"no list")
    writer.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    writer.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    writer.script_flush()
    eventually(lambda: stack.answers("/livez"), "the API answers", 180)
    assert stack.run(code="print(1)")["stdout"] == "1\n"
    cancels_at_once(stack)
    assert stack.workers[0].popen.poll() is None
    eventually(lambda: fleet(stack) == [worker["id"]], "the worker's heartbeats continue")
    eventually(stack.containers, "a container waits in the pool")


def test_malformed_messages_leave_waiting_clients_their_answers(attacked: tuple[Stack, Any]) -> None:
    stack, writer = attacked
    (channel,) = eventually(lambda: writer.pubsub_channels(f"{keys.ANSWERS}*"), "the API is subscribed")
    for message in (*MESSAGES, b" ", b"0" * 32 + b" \xff\xff"):
        writer.publish(channel, message)
        writer.publish(keys.ENDED, message)
    pause = Pause()
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(stack.run, code=f"{pause.code}\nprint(2)", limits={"wall_seconds": 90})
        (id,) = eventually(lambda: active(writer), "a worker has the execution")
        assert writer.publish(channel, id + b" \xc1") == 1
        pause.end()
        ended = answer.result(60)
    assert (ended["state"], ended["stdout"]) == ("succeeded", "2\n")
