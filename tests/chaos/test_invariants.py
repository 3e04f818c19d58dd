"""The checker finds violations: planted by hand, and in an installation whose workers have no fence."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rq.job import Job

from orchestrator import queue
from orchestrator.models import ISOLATIONS
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from tests.builders.records import now, result, submit
from tests.chaos.installations import workers
from tests.chaos.installations.installation import Client, Installation
from tests.chaos.invariants import SHOWN, Accepted, left_on_host, violations
from tests.harness import RedisServer, eventually

PRINTED = "a\nb\n"
LATE = r"(?s)Workers \[\d+\] did not end within 0.5 s.*worker/process.py"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    server = RedisServer(tmp_path)
    server.start()
    made = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    yield made
    made.redis.close()
    server.stop()


@pytest.fixture
def accepted(store: Store) -> list[Accepted]:
    """Two executions that have ended well, one of them in its second attempt."""
    found = [Accepted(submit(store), PRINTED, "t") for _ in range(2)]
    deliveries = queue.Deliveries(store.redis, store.redis, "w")
    done = deliveries.take(ISOLATIONS)
    assert done is not None
    store.records.start(done.claim, now(), [("stdout", b"a\n", False)])
    assert store.records.requeue(done.claim.id, 1)
    assert queue.put_back(store, done.claim.id)
    while taken := deliveries.take(ISOLATIONS, done):
        store.records.start(taken.claim, now(), [("stdout", b"a\n", False)])
        whole = result().model_copy(update={"stdout_bytes": len(PRINTED)})
        store.records.commit(taken.claim, whole, [("stdout", b"b\n", False)])
        done = taken
    for one in found:
        shown = store.records.get(one.id, "t").model_copy(update={"stdout": PRINTED})
        one.reported = shown.model_dump(mode="json", include=set(SHOWN))
        one.reported_again = dict(one.reported)
    return found


def test_checker_reports_nothing_for_a_sound_run(store: Store, accepted: list[Accepted]) -> None:
    assert violations(store.redis, accepted) == []


Tamper = Callable[[Any, Accepted], object]


def _drop_output(redis: Any, one: Accepted) -> None:
    name = keys.stream(one.id)
    redis.xdel(name, *[id for id, fields in redis.xrange(name) if fields[b"d"] == b"b\n"])


def _publish(**fields: str) -> Tamper:
    return lambda redis, one: redis.xadd(keys.stream(one.id), fields)


WRONG: dict[str, tuple[Tamper, str]] = {
    "a record is gone": (lambda redis, one: redis.delete(keys.execution(one.id)), "its record is gone"),
    "it has not ended": (lambda redis, one: redis.hset(keys.execution(one.id), "state", "running"), "not ended"),
    "it could be run again": (lambda redis, one: redis.hset(keys.execution(one.id), "spec", "{}"), "keeps ['spec']"),
    "it stays for ever": (lambda redis, one: redis.zrem(keys.EXPIRY, one.id), "never expire"),
    "another state": (lambda redis, one: redis.hset(keys.execution(one.id), "state", "failed"), "of another state"),
    "output is missing": (_drop_output, "its output is"),
    "output came twice": (_publish(t="stdout", d="b\n", a="1"), "its output is"),
    "output after the end": (_publish(t="stdout", d="b\n", a="9"), "it printed while it was succeeded"),
    "a step back": (_publish(t="state", d="running", a="1"), "it went from succeeded to running"),
    "two ends": (_publish(t="state", d="succeeded", a="1"), "it ended 2 times"),
    "reported twice": (_publish(t="done", d="succeeded", a="1"), "not reported once"),
    "another attempt": (lambda redis, one: redis.hincrby(keys.execution(one.id), "attempt", 1), "in attempt"),
    "time runs back": (lambda redis, one: redis.hset(keys.execution(one.id), "finished_at", 1), "before it began"),
    "another state reported": (lambda redis, one: one.reported.update(state="failed"), "client received state"),  # type: ignore[union-attr]
    "no end reported": (lambda redis, one: setattr(one, "reported", None), "client never received"),
    "an unknown record": (lambda redis, _: redis.hset(keys.execution("f" * 32), "tenant", "t"), "no client submitted"),
    "still queued": (lambda redis, one: redis.zadd(keys.QUEUED, {one.id: 1}), "left in mayfly:queued"),
    "still active": (lambda redis, one: redis.zadd(keys.ACTIVE, {one.id: 1}), "left in mayfly:active"),
    "not in its tenant's list": (lambda redis, one: redis.zrem(keys.tenant_index("t"), one.id), "the index of tenant"),
    "a counter is off": (lambda redis, one: redis.hincrby(keys.tenant_counters("t"), "active", -1), "'active': -1"),
    "a reserve is left": (lambda redis, one: redis.hincrby(keys.tenant_counters("t"), "reserved", 1), "'reserved': 1"),
    "a key's counter is off": (lambda redis, one: redis.hset(keys.key_counters("k"), "queued", 1), "'queued': 1"),
    "an end was not counted": (lambda redis, one: redis.delete(*redis.keys(f"{keys.RATES}[0-9]*")), "were counted"),
    "an entry in a queue": (lambda redis, one: redis.rpush("rq:queue:low", one.id), "rq:queue:low is left"),
    "a job": (lambda redis, one: redis.hset(Job.key_for(one.id), "status", "queued"), "rq:job"),
    "a begun job": (lambda redis, one: redis.zadd("rq:wip:high", {f"{one.id}:1": 1}), "rq:wip:high is left"),
    "a token": (lambda redis, one: redis.rpush(keys.bell("standard"), 1), "1 tokens"),
    "a worker": (lambda redis, one: redis.sadd(keys.WORKERS, "w"), "workers ['w'] are left"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_checker_finds_each_broken_invariant(what: str, store: Store, accepted: list[Accepted]) -> None:
    tamper, found = WRONG[what]
    tamper(store.redis, accepted[-1])
    assert any(found in violation for violation in violations(store.redis, accepted))


@pytest.mark.parametrize("path", ["containers/worker/one", "oci/bundles/worker/one", "sandboxes/200000", "cgroup"])
def test_checker_finds_leftovers_on_the_host(path: str, tmp_path: Path) -> None:
    def left() -> list[str]:
        return left_on_host(tmp_path, [7], tmp_path / "cgroup")

    assert left() == []
    made = tmp_path / ("cgroup/cpu/mayfly/mayfly-a.host-7-ab-cd" if path == "cgroup" else f"state/{path}")
    made.mkdir(parents=True)
    (found,) = left()
    assert made.name in found


@pytest.mark.parametrize("weaker", [(), ("no watch",), ("no watch", "no fence")])
def test_worker_stopped_for_longer_than_its_lease(
    weaker: tuple[str, ...], installation: Callable[..., Installation]
) -> None:
    """Another worker has the execution. The stopped worker notices that itself; otherwise the fence would refuse it."""
    stack = installation()
    stack.begin(2, iter(()), weaker)
    with closing(Client(stack.env["MAYFLY_URL"], stack.key, seed=1)) as client:
        one = client.submit(80, pause_ms=50)
        assert one is not None
        attempt, worker = eventually(lambda: _running(stack, one, 0), "the execution runs", 60)
        os.kill(worker, signal.SIGSTOP)
        eventually(lambda: _running(stack, one, attempt), "the execution runs in another worker", 60)
        os.kill(worker, signal.SIGCONT)
        client.await_end(one)
    found = stack.check(client.accepted, 3 if "no fence" in weaker else 120)
    if "no fence" not in weaker:
        assert found == []
    else:
        assert any("wrote 'stdout' in attempt" in violation for violation in found), found


def _running(stack: Installation, one: Accepted, after: int) -> tuple[int, int] | None:
    """The attempt in which it runs, behind that one, and the pid of the worker that has it."""
    state, attempt, worker = stack.raw.hmget(keys.execution(one.id), "state", "attempt", "worker")
    return (int(attempt), int(worker.split(b"-")[-2])) if state == b"running" and int(attempt) > after else None


def test_worker_that_does_not_end_fails_with_its_stacks(
    installation: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = installation()
    crew = stack.begin(1, iter(()))
    stack.ready()
    crew.signal(signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(workers, "END_SECONDS", 0.5)
        with pytest.raises(AssertionError, match=LATE):
            crew.stop()
    stack.crew = crew.successor()
    assert stack.check([]) == []


def test_sigterm_ends_worker_at_once_after_its_fork() -> None:
    """Coverage's handler, inherited, would lose the signal: this fails under ``--cov`` only."""
    for _ in range(20):
        process = workers.FORKS.Process(target=signal.pause, daemon=True)
        process.start()
        process.terminate()
        process.join(60)
        assert process.exitcode == -signal.SIGTERM
        process.close()
