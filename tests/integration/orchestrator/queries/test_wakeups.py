"""Waiting requests are woken by changes, in every API process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY
from redis import Redis

from orchestrator import queue
from orchestrator.models import ISOLATIONS
from orchestrator.queries.wakeups import Wakeups
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from orchestrator.store.executions.records import Claim
from orchestrator.store.scripts import PUSHED_BYTES, PUSHED_ENTRIES
from tests.builders.records import now, result
from tests.harness import Stack, eventually

PROGRAM: dict[str, Any] = {"environment": "python", "code": "print(1)"}
SOON = 30.0  # far less than any waiter here waits without a wake-up


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Stack]]:
    """Two API processes on one Redis, without workers: the tests take and end executions themselves."""
    one = Stack(tmp_path_factory.mktemp("one"), janitor_seconds=1000, lease_seconds=1000)
    two = Stack(one.directory, janitor_seconds=1000)
    two.env |= {name: one.env[name] for name in ("MAYFLY_REDIS_URL", "MAYFLY_STATE_DIR")}
    one.redis.start()
    try:
        one.start_api()
        two.start_api()
        yield one, two
    finally:
        for stack in (one, two):
            if stack.api is not None:
                stack.api.stop()
            stack.client.close()
        one.redis.stop()


@pytest.fixture
def store(apis: tuple[Stack, Stack]) -> Iterator[Store]:
    made = open_store(Settings(state_dir=apis[0].directory / "state", redis_url=apis[0].redis.url))
    yield made
    made.redis.close()


def begun(store: Store) -> Claim:
    """The execution that was queued last, running."""
    deliveries = queue.Deliveries(store.redis, store.redis, "w")
    taken = eventually(lambda: deliveries.take(ISOLATIONS), "the execution is queued")
    store.records.start(taken.claim, now())
    return taken.claim


def listening(store: Store) -> dict[str, int]:
    """How many clients are subscribed to each channel of ours, but for those that are one process's own."""
    channels = store.redis.execute_command("PUBSUB", "CHANNELS", "mayfly:*")
    counts = {name.decode(): count for name, count in store.redis.pubsub_numsub(*channels)} if channels else {}
    return {name: count for name, count in counts.items() if not name.startswith(keys.ANSWERS)}


def test_waiting_submission_is_answered_at_the_end(apis: tuple[Stack, Stack], store: Store) -> None:
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(apis[0].submit, 60, **PROGRAM)
        claim = begun(store)
        ended = time.monotonic()
        store.records.commit(claim, result(), [("stdout", b"1\n", False)])
        found = answer.result(SOON)
    assert time.monotonic() - ended < SOON
    assert (found.status_code, found.json()["state"], found.json()["stdout"]) == (200, "succeeded", "1\n")


@pytest.fixture
def redis(apis: tuple[Stack, Stack]) -> Iterator[Redis]:
    """A client of a Redis that logs each command."""
    with apis[0].redis.client() as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.config_set("slowlog-max-len", 10_000)
        yield client
        client.config_set("slowlog-log-slower-than", 10_000)


def scripts_about(redis: Redis, id: str) -> int:
    """How many logged calls of scripts name an execution; the processes call others now and then."""
    logged: list[bytes] = [entry["command"] for entry in redis.slowlog_get(10_000)]
    return sum(command.startswith(b"EVALSHA") and id.encode() in command for command in logged)


@pytest.mark.parametrize(
    ("entries", "scripts"),
    [
        pytest.param([("stdout", b"1\n\xff", False), ("stderr", b"2", False)], 1, id="told"),
        pytest.param([("stdout", b"x" * PUSHED_BYTES, False)], 2, id="read: too many bytes"),
        pytest.param([("stdout", b"%d" % n, False) for n in range(PUSHED_ENTRIES)], 2, id="read: too many entries"),
    ],
)
def test_small_result_is_pushed_to_the_waiting_submission(
    apis: tuple[Stack, Stack], store: Store, redis: Redis, entries: list[Any], scripts: int
) -> None:
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(apis[0].submit, 60, **PROGRAM)
        claim = begun(store)
        redis.slowlog_reset()
        store.records.commit(claim, result(), entries)
        found = answer.result(SOON)
    # One to end it, and another for a process that has to read.
    assert scripts_about(redis, claim.id) == scripts
    assert found.status_code == 200
    assert found.json() == apis[1].show(claim.id)
    assert store.redis.hget(keys.execution(claim.id), "reply_to") is None


def test_every_process_receives_an_end(apis: tuple[Stack, Stack], store: Store) -> None:
    id = apis[0].submit(**PROGRAM).json()["id"]
    claim = begun(store)
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(stack.show, id, 60) for stack in apis]
        assert not any(answer.done() for answer in answers)
        store.records.commit(claim, result())
        assert [answer.result(SOON)["state"] for answer in answers] == ["succeeded"] * 2


def test_a_follower_elsewhere_sees_output_at_once_and_is_forgotten(apis: tuple[Stack, Stack], store: Store) -> None:
    id = apis[0].submit(**PROGRAM).json()["id"]
    claim = begun(store)
    # Output of other executions wakes no process.
    eventually(lambda: listening(store) == {"mayfly:ended": 2}, "no earlier follower is subscribed")
    with apis[1].client.stream("GET", f"/api/v1/executions/{id}/stream") as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        assert [next(lines) for _ in range(3)][-1] == 'data: {"state": "running", "attempt": 1}'
        eventually(lambda: listening(store).get(f"mayfly:wake:{id}") == 1, "the API process is subscribed")
        for number in range(3):
            assert store.output.append(id, 1, [("stdout", b"%d\n" % number, False)])
            assert next(lines) == f'data: {{"text": "{number}\\n"}}'
        store.records.commit(claim, result())
        assert next(lines) == 'data: {"state": "succeeded", "attempt": 1}'
    eventually(lambda: listening(store) == {"mayfly:ended": 2}, "the subscription has ended")


def test_follower_reads_on_arrival_and_on_wake_up(apis: tuple[Stack, Stack], store: Store) -> None:
    id = apis[0].submit(**PROGRAM).json()["id"]
    claim = begun(store)
    store.redis.config_resetstat()
    with apis[1].client.stream("GET", f"/api/v1/executions/{id}/stream") as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        assert [next(lines) for _ in range(3)][-1] == 'data: {"state": "running", "attempt": 1}'
        assert store.output.append(id, 1, [("stdout", b"said", False)])
        assert next(lines) == 'data: {"text": "said"}'
        # On arrival, on the output, and in between if the confirmation of the subscription comes after the first read.
        assert store.redis.info("commandstats")["cmdstat_xrange"]["calls"] in (2, 3)
        store.records.commit(claim, result())
        assert next(lines) == 'data: {"state": "succeeded", "attempt": 1}'


def test_waiter_misses_nothing_during_a_lost_subscription(apis: tuple[Stack, Stack], store: Store) -> None:
    id = apis[0].submit(**PROGRAM).json()["id"]
    claim = begun(store)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(apis[0].show, id, 60)
        store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        store.records.commit(claim, result())
        assert answer.result(SOON)["state"] == "succeeded"
    eventually(lambda: listening(store) == {"mayfly:ended": 2}, "both API processes are subscribed again")


def test_internal_error_is_reported_and_ends_no_other_wait(store: Store, apis: tuple[Stack, Stack]) -> None:
    class Erring(Wakeups):
        erred = False

        def _dispatch(self, type: str, channel: bytes, data: bytes) -> None:
            if type == "message" and not self.erred:
                self.erred = True
                raise RuntimeError("of our own")
            super()._dispatch(type, channel, data)

    async def woken() -> bool:
        wakeups = Erring(apis[0].redis.url)
        await wakeups.start()
        try:
            with wakeups.ends("it") as listener:
                assert await listener.wait(SOON)  # it is subscribed
                store.redis.publish(keys.ENDED, "it")
                return await listener.wait(SOON) and wakeups.erred
        finally:
            await wakeups.stop()

    failures = partial(REGISTRY.get_sample_value, "mayfly_wakeup_failures_total")
    before = failures()
    with structlog.testing.capture_logs() as logged:
        assert asyncio.run(woken())
    assert before is not None
    assert failures() == before + 1
    assert [line["event"] for line in logged] == ["wakeups.failed"]


def test_an_answer_to_the_same_key_waits_for_the_first(apis: tuple[Stack, Stack], store: Store) -> None:
    headers = {"Idempotency-Key": "once"}
    id = apis[0].submit(headers=headers, **PROGRAM).json()["id"]
    claim = begun(store)
    with ThreadPoolExecutor(1) as threads:
        answer: Any = threads.submit(apis[1].submit, 60, headers, **PROGRAM)
        store.records.commit(claim, result())
        found = answer.result(SOON).json()
    assert (found["id"], found["state"]) == (id, "succeeded")
