"""Records, queue and fleet on a real Redis: each step is atomic, and only the owner's counts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from orchestrator import __version__, queue
from orchestrator.errors import (
    BlobsFull,
    IdempotencyConflict,
    NotFound,
    QueueFull,
    SpecificationRejected,
    StaleAttempt,
    StoreFull,
    StoreUnavailable,
    TenantQueueFull,
)
from orchestrator.janitor.janitor import Janitor
from orchestrator.models import ISOLATIONS, Isolation
from orchestrator.models.fleet import WorkerStatus
from orchestrator.settings import Settings
from orchestrator.states import Reason, State, cancelled, errored
from orchestrator.store import Store, keys, open_store
from orchestrator.store.connection import connect_plain
from orchestrator.store.executions.records import Claim, Idempotency, QueueBounds
from orchestrator.store.executions.sealing import open_sealed, seal
from orchestrator.store.platform.fleet import Beat
from orchestrator.store.steps import Step
from tests.builders.counted import counted
from tests.builders.records import KEY, LATER, claimed, now, result, specification, submit, take
from tests.harness import RedisServer, eventually
from worker.attempt.output import OutputSink


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"retention_seconds": 100, "max_attempts": 2, "retry_seconds": 4.0})


def counters(store: Store) -> dict[str, int]:
    found = store.redis.hgetall(keys.tenant_counters("t"))
    return {name: int(found[name.encode()]) for name in ("queued", "active") if name.encode() in found}


def test_execution_passes_through_all_states(store: Store) -> None:
    id = submit(store)
    assert store.records.get(id, "t").state == "queued"
    assert counters(store) == {"queued": 1}
    claim = claimed(store, id)
    assert (claim.attempt, open_sealed(id, claim.spec, claim.signature, KEY).tenant) == (1, "t")
    assert counters(store) == {"queued": 0, "active": 1}
    store.records.start(claim, now())
    assert store.output.append(id, 1, [("stdout", b"hello", False)])
    store.records.commit(claim, result())
    ended = store.records.get(id, "t")
    assert (ended.state, ended.attempt) == ("succeeded", 1)
    assert ended.finished_at is not None
    assert counters(store) == {"queued": 0, "active": 0}
    assert not store.redis.hexists(keys.execution(id), "spec")
    reported = [(entry.type, entry.data.decode()) for entry in store.output.entries(id)]
    states = [("state", state) for state in ("queued", "starting", "running")]
    assert reported == [*states, ("stdout", "hello"), ("state", "succeeded"), ("done", "succeeded")]


def test_repeated_submission_is_accepted_once(store: Store) -> None:
    made = specification()
    sealed, signature = seal(made, KEY)
    reported = [
        store.records.submit(made, sealed, signature, queue.envelope(made), QueueBounds(100, 100), None)
        for _ in range(2)
    ]
    assert reported[0] == reported[1]
    assert reported[0][0] == made.id
    assert counters(store)["queued"] == 1
    claim = claimed(store, made.id)
    store.records.start(claim, now())
    store.records.submit(made, sealed, signature, queue.envelope(made), QueueBounds(100, 100), None)
    shown = store.records.get(made.id, "t")
    assert (shown.state, shown.attempt, take(store)) == ("running", 1, None)


def test_repeated_step_is_applied_once(store: Store) -> None:
    claim = claimed(store, submit(store))
    for _ in range(2):
        store.records.start(claim, now(), [("stdout", b"a", False)], "one")
    for _ in range(2):
        assert store.output.append(claim.id, 1, [("stdout", b"b", False)], "two")
    with pytest.raises(StaleAttempt):
        store.records.start(claim, now(), [("stdout", b"a", False)], "one")
    for _ in range(2):
        store.records.commit(claim, result(), [("stdout", b"c", False)], "three")
    with pytest.raises(StaleAttempt):
        store.records.commit(claim, result())
    assert store.output.bytes_of(claim.id, 1, "stdout") == [b"abc"]
    assert [entry.type for entry in store.output.entries(claim.id)].count("done") == 1
    assert counters(store)["active"] == 0


def test_exactly_one_concurrent_claim_wins(store: Store) -> None:
    id = submit(store)
    store.redis.rpush("rq:queue:t:default", *[id] * 63)  # put back too often, as two janitors at once might
    with ThreadPoolExecutor(16) as threads:
        found = list(
            threads.map(lambda n: queue.Deliveries(store.redis, store.redis, f"w{n}").take(ISOLATIONS), range(64))
        )
    assert [(taken.claim.id, taken.claim.attempt) for taken in found if taken] == [(id, 1)]
    assert queue.depths(store)["default"] == 0


def test_exactly_one_concurrent_commit_wins(store: Store) -> None:
    claim = claimed(store, submit(store))
    store.records.start(claim, now())

    def commit(_: int) -> bool:
        try:
            store.records.commit(claim, result())
        except StaleAttempt:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(commit, range(64))) == 1


def test_stale_attempt_writes_nothing(store: Store) -> None:
    id = submit(store)
    first = claimed(store, id, "first")
    store.records.start(first, now())
    assert store.records.requeue(id, 1)
    assert queue.put_back(store, id)
    second = claimed(store, id, "second")
    assert second.attempt == 2
    with pytest.raises(StaleAttempt):
        store.records.start(first, now())
    with pytest.raises(StaleAttempt):
        store.records.commit(first, result(), [("stdout", b"late", False)])
    assert not store.output.append(id, 1, [("stdout", b"late", False)])
    assert not store.records.requeue(id, 1)
    store.records.start(second, now())
    store.records.commit(second, result())
    assert store.output.bytes_of(id, 2, "stdout") == [b""]


def test_requeued_attempt_writes_nothing(store: Store) -> None:
    id = submit(store)
    claim = claimed(store, id)
    assert store.records.requeue(id, claim.attempt)
    assert not store.records.end(id, errored(Reason.INTERNAL), "late", claim.attempt)
    assert not store.output.append(id, claim.attempt, [("stdout", b"late", False)])
    assert not store.records.requeue(id, claim.attempt)
    assert store.records.get(id, None).state == "queued"
    assert [entry.data for entry in store.output.read(id) if entry.type != "state"] == []
    assert store.records.end(id, errored(Reason.QUEUE_EXPIRED), "nobody's", None, [State.QUEUED])


def test_handed_back_attempt_is_no_failure(store: Store) -> None:
    id = submit(store)
    for attempt, handed_back, faults in ((1, True, 0), (2, False, 1), (3, True, 1)):
        assert claimed(store, id).attempt == attempt
        assert store.records.requeue(id, attempt, handed_back=handed_back)
        assert store.records.faults(id, attempt) == faults
        assert queue.put_back(store, id)


def test_transition_outside_the_table_is_refused(store: Store) -> None:
    id = submit(store)
    claim = Claim(id, 0, b"", "")
    with pytest.raises(StaleAttempt):
        store.records.start(claim, now())  # queued → running
    with pytest.raises(StaleAttempt):
        store.records.commit(claim, result())  # queued → succeeded
    assert store.records.end(id, errored(Reason.INTERNAL), "why", None)
    assert not store.records.end(id, errored(Reason.INTERNAL), "again", None)
    assert take(store) is None


def test_ended_execution_accepts_no_output_from_its_worker(store: Store) -> None:
    claim = claimed(store, submit(store))
    assert store.output.append(claim.id, 1, [("stdout", b"told", False)])
    assert store.records.end(claim.id, store.records.cancelled(claim.id), "Its worker was lost.", 1)
    reported = store.output.read(claim.id)
    assert not store.output.append(claim.id, 1, [("stdout", b"late", False)])
    assert store.output.read(claim.id) == reported


def test_repeated_idempotency_key_returns_the_same_execution(store: Store) -> None:
    with ThreadPoolExecutor(16) as threads:
        ids = set(threads.map(lambda _: submit(store, Idempotency("k", "digest")), range(50)))
    assert len(ids) == 1
    assert store.records.counts() == {"queued": 1, "active": 0}
    with pytest.raises(IdempotencyConflict):
        submit(store, Idempotency("k", "another"))
    assert submit(store, Idempotency("k", "another"), tenant="u") not in ids


def test_full_queue_refuses_submissions(store: Store) -> None:
    submit(store, limit=1)
    with pytest.raises(QueueFull):
        submit(store, limit=1)
    assert store.records.counts()["queued"] == 1
    assert queue.depths(store) == {"high": 0, "default": 1, "low": 0}


def test_tenant_at_its_queue_share_leaves_room_for_others(store: Store) -> None:
    ids = [submit(store, tenant_limit=2) for _ in range(2)]
    with pytest.raises(TenantQueueFull):
        submit(store, tenant_limit=2)
    submit(store, tenant_limit=2, tenant="u")
    assert counters(store) == {"queued": 2}
    claimed(store, ids[0])
    submit(store, tenant_limit=2)


def test_tenants_do_not_see_each_other(store: Store) -> None:
    id = submit(store)
    assert store.records.get(id, None).id == id
    with pytest.raises(NotFound):
        store.records.get(id, "u")
    assert [found for _, found in store.records.page_ids("u", None, 10)] == []


def test_a_seal_holds(store: Store) -> None:
    made = specification()
    sealed, signature = seal(made, KEY)
    assert open_sealed(made.id, sealed, signature, KEY) == made
    for id, body, mac, key in (
        ("another", sealed, signature, KEY),
        (made.id, sealed.replace(b"python", b"pythom"), signature, KEY),
        (made.id, sealed, "0" * 64, KEY),
        (made.id, sealed, signature, b"another key"),
        (made.id, b"{}", seal(made, KEY)[1], KEY),
    ):
        with pytest.raises(SpecificationRejected):
            open_sealed(id, body, mac, key)


@pytest.fixture
def popped(store: Store, server: RedisServer) -> Iterator[Callable[..., str | None]]:
    connection = connect_plain(server.url, 300)

    deliveries = queue.Deliveries(store.redis, connection, "w")

    def pop(seconds: int = 0, isolations: tuple[Isolation, ...] = ISOLATIONS) -> str | None:
        if seconds and deliveries.await_bell(isolations, seconds) is None:
            return None
        found = deliveries.take(isolations)
        return f"{found.queue.removeprefix('t:')} {found.claim.id}" if found else None

    yield pop
    connection.close()


def test_jobs_come_by_priority_then_age(store: Store, popped: Callable[..., str | None]) -> None:
    ids = [(priority, submit(store, priority=priority)) for priority in ("low", "default", "high", "low", "high")]
    order = [ids[2], ids[4], ids[1], ids[0], ids[3]]
    assert [popped() for _ in ids] == [f"{priority} {id}" for priority, id in order]
    assert store.redis.llen(keys.bell("standard")) == 0
    assert popped() is None


def test_worker_takes_only_isolations_of_its_host(store: Store, popped: Callable[..., str | None]) -> None:
    ids = [submit(store, isolation=isolation) for isolation in ("hardened", "standard", "hardened", "standard")]
    high = submit(store, isolation="hardened", priority="high")
    assert queue.depths(store) == {"high": 1, "default": 4, "low": 0}
    assert popped(isolations=("standard",)) == f"default {ids[1]}"
    assert popped() == f"high-hardened {high}"
    assert popped() == f"default-hardened {ids[0]}"  # of one priority, the oldest of both isolations
    assert popped(isolations=("standard",)) == f"default {ids[3]}"
    assert popped(isolations=("standard",)) is None
    assert store.redis.llen(keys.bell("hardened")) >= 1  # still rings for the one that is left
    assert popped(isolations=("hardened",)) == f"default-hardened {ids[2]}"
    assert queue.depths(store) == {"high": 0, "default": 0, "low": 0}


def test_worker_is_not_woken_for_another_isolation(store: Store, popped: Callable[..., str | None]) -> None:
    with ThreadPoolExecutor(2) as threads:
        waiting = {tier: threads.submit(popped, 200, (tier,)) for tier in ISOLATIONS}
        eventually(lambda: blocked(store) == 2, "both slots block")
        id = submit(store, isolation="hardened")
        assert waiting["hardened"].result(60) == f"default-hardened {id}"
        assert (blocked(store), waiting["standard"].done()) == (1, False)
        own = submit(store)
        assert waiting["standard"].result(60) == f"default {own}"


def blocked(store: Store) -> int:
    """How many slots wait for their bell."""
    return sum(client["cmd"] == "blpop" and "b" in client["flags"] for client in store.redis.client_list())


def test_take_skips_cancelled_execution(store: Store, popped: Callable[..., str | None]) -> None:
    first, second = submit(store), submit(store)
    assert store.records.end(first, errored(Reason.INTERNAL), "why", None)  # and stands on its queue still
    assert popped() == f"default {second}"
    assert queue.depths(store)["default"] == 0


def test_cancelled_execution_leaves_its_queue(store: Store, popped: Callable[..., str | None]) -> None:
    id = submit(store, isolation="hardened")
    queue.withdraw(store, store.records.get(id, None))
    assert popped() is None


def test_an_idle_worker_is_woken(store: Store, popped: Callable[..., str | None]) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(popped, 60)
        eventually(lambda: blocked(store) == 1, "the slot blocks")
        id = submit(store)
        assert waiting.result(40) == f"default {id}"


def test_lost_wake_up_token_loses_no_execution(store: Store, popped: Callable[..., str | None]) -> None:
    id = submit(store)
    store.redis.delete(keys.bell("standard"))
    assert popped() == f"default {id}"


def heartbeat(store: Store, id: str, *executions: str) -> Beat:
    return store.fleet.heartbeat(
        WorkerStatus(
            id=id,
            host="h",
            driver="docker",
            runtimes={},
            environments=(),
            slots=1,
            busy=0,
            pool={},
            executions=executions,
            engine="e",
        )
    )


def test_janitor_requeues_execution_on_no_queue(
    store: Store, settings: Settings, popped: Callable[..., str | None]
) -> None:
    id = submit(store)
    store.redis.delete("rq:queue:t:default")
    janitor = Janitor(store, settings)
    janitor.round(now())
    assert queue.depths(store)["default"] == 0  # it may still be on its way
    janitor.round(now() + LATER)
    janitor.round(now() + LATER)
    assert popped() == f"default {id}"
    assert queue.depths(store)["default"] == 0  # put back once


def test_the_janitor_gives_a_dead_workers_execution_to_another(store: Store, settings: Settings) -> None:
    lost, kept = submit(store), submit(store)
    store.records.start(claimed(store, lost, "dead"), now())
    claimed(store, kept, "alive")
    heartbeat(store, "alive", kept)
    janitor = Janitor(store, settings)
    janitor.round(now() + LATER)
    assert store.records.get(lost, None).state == "queued"
    assert store.records.get(kept, None).state == "starting"
    janitor.round(now() + 3)  # the clock that a pause is counted by is Redis's
    assert take(store) is None
    janitor.round(now() + LATER)
    second = claimed(store, lost, "dead too")
    assert second.attempt == 2
    store.records.start(second, now())
    janitor.round(now() + LATER)
    ended = store.records.get(lost, None)
    assert (ended.state, ended.reason, ended.fault) == ("errored", "worker_lost", "platform")


@pytest.mark.parametrize("wrong", [-7200, 7200])
def test_wrong_host_clock_changes_no_time_in_the_record(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + wrong)
    id, other = submit(store), submit(store)
    claim = claimed(store, id)
    assert 0 < claim.queue_seconds < 5
    assert store.records.request_cancel(id, Reason.CANCELLED_BY_USER) is State.STARTING
    assert store.redis.zscore(keys.ACTIVE, id) == pytest.approx(right(), abs=5)
    assert store.redis.zscore(keys.QUEUED, other) == pytest.approx(right(), abs=5)
    store.records.start(claim, time.time() - 1)
    Janitor(store, settings).round(store.now())
    store.records.commit(claim, result())
    monkeypatch.undo()
    Janitor(store, settings).round(store.now())
    ended = store.records.get(id, None)
    assert ended.state == "succeeded"
    reported = (ended.created_at, ended.cancel_requested_at, ended.started_at, ended.finished_at, ended.expires_at)
    times = [at.timestamp() for at in reported if at is not None]
    assert times == pytest.approx([right(), right(), right(), right(), right() + 100], abs=5)
    assert ended.created_at <= ended.started_at <= ended.finished_at  # type: ignore[operator]


def test_end_is_never_before_start_when_redis_clock_is_set_back(store: Store) -> None:
    id = submit(store)
    claim = claimed(store, id)
    later = time.time() + 3600  # by the janitor's clock
    store.redis.hset(keys.execution(id), "created_at", later)
    store.records.start(claim, time.time())
    store.records.commit(claim, result())
    ended = store.records.get(id, None)
    assert ended.created_at == ended.started_at == ended.finished_at


def test_janitor_recovers_execution_its_worker_does_not_list(store: Store, settings: Settings) -> None:
    id = submit(store)
    claimed(store, id, "alive")
    heartbeat(store, "alive")
    Janitor(store, settings).round(now() + LATER)
    assert store.records.get(id, None).state == "queued"


def test_pauses_between_attempts_grow() -> None:
    settings = Settings(retry_seconds=4)
    assert [settings.retry_pause(faults) for faults in (1, 2, 3, 4, 5, 50)] == [4, 8, 16, 32, 60, 60]


def test_requested_cancellation_ends_execution_of_a_lost_worker(store: Store, settings: Settings) -> None:
    id = submit(store)
    claimed(store, id, "dead")
    assert store.records.request_cancel(id, Reason.CANCELLED_BY_USER) is State.STARTING
    Janitor(store, settings).round(now() + LATER)
    ended = store.records.get(id, None)
    assert (ended.state, ended.reason, ended.fault) == ("cancelled", "cancelled_by_user", None)


def test_janitor_removes_orphaned_artifacts(store: Store, settings: Settings) -> None:
    kept = submit(store)
    gone, fresh = "0" * 32, "1" * 32
    for id in (kept, gone, fresh):
        writer = store.blobs.artifact_writer(id, 1)
        writer.write(b"x")
        writer.commit()
    artifacts = settings.blobs_path / "artifacts"
    for id in (kept, gone):
        os.utime(artifacts / id, (1, 1))
    Janitor(store, settings).round(now())
    assert sorted(path.name for path in artifacts.iterdir()) == sorted([kept, fresh])


def test_janitor_finds_lost_execution_behind_a_thousand_others(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round reads one page of the queued executions, and all executions of workers."""
    monkeypatch.setattr("orchestrator.janitor.janitor.PAGE", 4)
    active = [submit(store) for _ in range(6)]
    for id in active:
        store.records.start(claimed(store, id, "alive"), now())
    heartbeat(store, "alive", *active[:5])
    queued = [submit(store) for _ in range(9)]
    for id in queued[5:9:3]:
        store.redis.lrem("rq:queue:t:default", 0, id)
    janitor, waiting = Janitor(store, settings), []
    for _ in range(4):
        janitor.round(now() + LATER)
        waiting.append(store.redis.llen("rq:queue:t:default"))
    assert store.records.get(active[5], None).attempt == 1
    assert [store.records.get(id, None).state for id in active] == ["running"] * 5 + ["queued"]
    assert waiting == [7, 9, 10, 10]  # the second puts back what the first has taken from the worker, too
    assert sorted(store.redis.lrange("rq:queue:t:default", 0, -1)) == sorted(map(str.encode, [active[5], *queued]))


def test_janitor_checks_all_executions_queued_at_the_same_time(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.janitor.janitor.PAGE", 3)
    ids = [submit(store) for _ in range(3)] + sorted(submit(store) for _ in range(3)) + [submit(store)]
    store.redis.zadd(keys.QUEUED, dict.fromkeys(ids[3:6], store.redis.zscore(keys.QUEUED, ids[3])))
    store.redis.delete("rq:queue:t:default")
    janitor = Janitor(store, settings)
    for _ in range(5):
        janitor.round(now() + LATER)
    assert store.redis.llen("rq:queue:t:default") == len(ids)


def test_janitor_keeps_execution_claimed_during_scan(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = submit(store)
    store.records.start(claimed(store, id, "dead"), now())
    holders = store.records.holders

    def meanwhile(ids: list[str]) -> Any:
        store.records.requeue(id, 1)
        queue.put_back(store, id)
        claimed(store, id, "other")
        return holders(ids)

    monkeypatch.setattr(store.records, "holders", meanwhile)
    later = store.redis.zscore(keys.ACTIVE, id) + 0.001
    eventually(lambda: store.now() > later, "the claim is as old as the lease")
    Janitor(store, settings.model_copy(update={"lease_seconds": 0.001})).round(store.now())
    found = store.records.get(id, None)
    assert (found.state, found.attempt) == ("starting", 2)


def test_failed_deletion_delays_no_other_deletion(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [submit(store) for _ in range(3)]
    for id in ids:
        store.records.commit(claimed(store, id), result("failed"))
    delete = store.own_blobs.delete_artifacts

    def fail_for_the_first(execution: str) -> None:
        if execution == ids[0]:
            raise PermissionError
        delete(execution)

    monkeypatch.setattr(store.own_blobs, "delete_artifacts", fail_for_the_first)
    store.redis.delete(keys.execution(ids[2]))
    Janitor(store, settings).round(now() + 101)
    with pytest.raises(NotFound):
        store.records.get(ids[0], None)
    with pytest.raises(NotFound):
        store.records.get(ids[1], None)
    assert [id.decode() for id in store.redis.zrange(keys.EXPIRY, 0, -1)] == ids[:1]  # its files cannot be removed yet
    monkeypatch.undo()
    Janitor(store, settings).round(now())
    assert not store.redis.exists(keys.EXPIRY)


def test_janitor_survives_key_of_another_type(store: Store, settings: Settings) -> None:
    failures = partial(counted, "mayfly_janitor_failures_total")
    janitor = Janitor(store, settings.model_copy(update={"janitor_seconds": 0.1}))
    store.redis.sadd(queue.QUEUES_KEY, "rq:queue:t:default")
    store.redis.set("rq:queue:t:default", "no list")
    before = failures()
    janitor.start()
    try:
        eventually(lambda: failures() > before + 1, "the janitor's round has failed twice")
    finally:
        janitor.stop()


def test_an_entry_without_a_record_is_forgotten(store: Store, settings: Settings) -> None:
    gone = [submit(store), submit(store)]
    claimed(store, gone[0], "dead")
    store.redis.delete(*map(keys.execution, gone))
    Janitor(store, settings).round(now() + LATER)
    assert store.records.counts() == {"queued": 0, "active": 0}


def refused(store: Store, more_bytes: int) -> bool:
    try:
        store.capacity.check(more_bytes)
    except StoreFull:
        return True
    return False


def test_nearly_full_store_refuses_submissions(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--maxmemory", "32mb")
    server.start()
    store = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    try:
        store.capacity.check(1000)
        with pytest.raises(StoreFull):
            store.capacity.check(32 * 2**20)
        store.redis.setrange("filler", 26 * 2**20, b"x")
        eventually(lambda: refused(store, 1000), "the store refuses submissions")
        submit(store)  # there is room for what was accepted
        store.redis.config_set("maxmemory", 0)
        eventually(lambda: not refused(store, 2**40), "the store accepts submissions again")
    finally:
        store.redis.close()
        server.stop()


def test_blobs_leave_room_for_artifacts(tmp_path: Path) -> None:
    store = open_store(Settings(state_dir=tmp_path, disk_free_bytes=2**60))
    with pytest.raises(BlobsFull):
        store.own_blobs.put("t", [b"x"])
    writer = store.blobs.artifact_writer("0" * 32, 1)
    writer.write(b"x")
    assert writer.commit()[1] == 1


def test_unrepeatable_execution_ends_with_its_worker(store: Store, settings: Settings) -> None:
    id = submit(store, retry=False)
    store.records.start(claimed(store, id, "dead"), now())
    Janitor(store, settings).round(now() + LATER)
    ended = store.records.get(id, None)
    assert (ended.state, ended.reason, ended.attempt, ended.retry) == ("errored", "worker_lost", 1, False)


@pytest.mark.parametrize("retry", [True, False])
def test_attempt_that_never_started_is_not_counted_for_a_while(store: Store, settings: Settings, retry: bool) -> None:
    """The worker may be alive without knowing of the claim, since an answer of Redis got lost."""
    settings = settings.model_copy(update={"retry_seconds": 0})
    id, janitor = submit(store, retry=retry), Janitor(store, settings)
    faults = []
    while (execution := store.records.get(id, None)).state != "errored":
        claim = claimed(store, id)
        heartbeat(store, "w")
        faults.append(store.records.faults(id, claim.attempt))
        janitor.round(now() + LATER)
        janitor.round(now() + LATER)
    most = settings.max_attempts
    assert faults == [1] * (most + 1) + [*range(2, most + 1)]
    assert (execution.reason, execution.message) == ("worker_lost", "The worker was lost in each of 4 attempts.")


def test_janitor_keeps_attempt_that_started_during_scan(store: Store) -> None:
    id = submit(store)
    claim = claimed(store, id)
    store.records.start(claim, now())
    assert not store.records.requeue(id, claim.attempt, unbegun=True)
    assert store.records.get(id, None).state == "running"
    assert store.records.requeue(id, claim.attempt)


def test_heartbeat_reports_whether_the_lease_existed(store: Store) -> None:
    assert heartbeat(store, "w") == (False, False)
    assert heartbeat(store, "w") == (True, False)
    assert store.fleet.drain("w")
    assert heartbeat(store, "w") == (True, True)
    store.redis.pexpire(keys.worker("w"), 2000)
    (worker,) = store.fleet.alive()
    assert worker.heartbeat_age_seconds >= Settings().lease_seconds - 2
    assert worker.version == __version__
    assert store.fleet.drain("w", undo=True)
    assert heartbeat(store, "w") == (True, False)
    store.redis.delete(keys.worker("w"))
    assert store.fleet.alive() == []
    assert not store.fleet.drain("w", undo=True)
    assert heartbeat(store, "w") == (False, False)


def test_a_drain_survives_the_loss_of_the_lease(store: Store) -> None:
    heartbeat(store, "w")
    assert store.fleet.drain("w")
    (worker,) = store.fleet.alive()
    store.redis.delete(keys.worker("w"))
    draining = worker.model_copy(update={"draining": True})
    assert store.fleet.heartbeat(draining) == (False, True)
    assert store.fleet.drain("w", undo=True)
    assert store.fleet.heartbeat(draining) == (True, False), "its own report does not renew the request"


@pytest.mark.parametrize("last", [True, False])
def test_last_request_to_a_worker_survives_the_loss_of_the_lease(store: Store, last: bool) -> None:
    """The worker reports what it did before: it has not seen the last request when its lease ends."""
    heartbeat(store, "w")
    (worker,) = store.fleet.alive()
    assert store.fleet.drain("w", undo=last)
    assert store.fleet.drain("w", undo=not last)
    store.redis.delete(keys.worker("w"))
    assert store.fleet.alive() == []
    reported = worker.model_copy(update={"draining": not last})
    assert store.fleet.heartbeat(reported) == (False, last)
    assert store.fleet.heartbeat(reported) == (True, last)
    assert 0 < store.redis.ttl(keys.worker_drain("w")) <= 86_400
    store.fleet.leave("w")
    assert store.redis.exists(keys.worker_drain("w")) == 0, "a new process is another worker"
    assert heartbeat(store, "w") == (False, False)


def test_janitor_deletes_executions_past_retention(store: Store, settings: Settings) -> None:
    id = submit(store)
    claim = claimed(store, id)
    store.records.start(claim, now())
    writer = store.blobs.artifact_writer(id, 1)
    writer.write(b"x")
    sha256, _ = writer.commit()
    store.records.commit(claim, result())
    janitor = Janitor(store, settings)
    janitor.round(now() + 50)
    kept = settings.blobs_path / "artifacts" / id / "1" / sha256.removeprefix("sha256:")
    assert kept.exists()
    janitor.round(now() + 101)
    with pytest.raises(NotFound):
        store.records.get(id, None)
    assert not kept.exists()
    left = {key.decode() for key in store.redis.keys("mayfly:*") if not key.startswith(keys.RATES[:-1].encode())}
    usage = keys.tenant_usage(f"t:{store.usages.today()}")
    assert left == {keys.tenant_counters("t"), keys.TURN, keys.TURNS, usage}


def test_blobs_expire_unless_used(store: Store, settings: Settings) -> None:
    old, _ = store.own_blobs.put("t", [b"old"])
    used, size = store.own_blobs.put("t", [b"us", b"ed"])
    assert size == 4
    assert store.own_blobs.put("t", [b"used"]) == (used, 4)
    assert store.own_blobs.open("u", used) is None
    assert store.own_blobs.expire(3600) == 0
    for reference in (old, used):
        os.utime(settings.blobs_path / "blobs" / "t" / reference.removeprefix("sha256:"), (1, 1))
    content = store.own_blobs.open("t", used)  # renews it
    assert content is not None
    content.close()
    assert store.own_blobs.expire(3600) == 1
    assert store.own_blobs.open("t", old) is None


def test_concurrent_janitors_expire_the_same_blobs(store: Store, settings: Settings) -> None:
    for number in range(2000):
        reference, _ = store.own_blobs.put("t", [b"%d" % number])
        os.utime(settings.blobs_path / "blobs" / "t" / reference.removeprefix("sha256:"), (1, 1))
    with ThreadPoolExecutor(8) as janitors:
        removed = list(janitors.map(store.own_blobs.expire, [3600] * 8))
    assert sum(removed) >= 2000
    assert store.own_blobs.expire(0) == 0


def test_redis_away_is_our_error(tmp_path: Path) -> None:
    store = open_store(Settings(state_dir=tmp_path))
    with pytest.raises(StoreUnavailable):
        store.records.get("x", None)
    with pytest.raises(StoreUnavailable):
        store.records.counts()
    with pytest.raises(StoreUnavailable):
        submit(store)


def test_redis_out_of_memory_is_our_error(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--maxmemory", "1mb")
    server.start()
    try:
        store = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
        with pytest.raises(StoreUnavailable):
            [submit(store, limit=10_000) for _ in range(2000)]
        counts = store.records.counts()  # what is there can still be read, and agrees with itself
        assert counts["queued"] == queue.depths(store)["default"]
        store.redis.close()
    finally:
        server.stop()


def test_redis_without_required_replicas_is_a_store_error(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--min-replicas-to-write", "1")
    server.start()
    store = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    try:
        with pytest.raises(StoreUnavailable):
            submit(store)
        with pytest.raises(StoreUnavailable):
            store.fleet.leave("w")
        with pytest.raises(StoreUnavailable):
            store.redis.set("x", "y")
        assert store.records.counts() == {"queued": 0, "active": 0}  # what is there can still be read
        with pytest.raises(ResponseError, match="unknown command"):
            store.redis.execute_command("NONSENSE")
    finally:
        store.redis.close()
        server.stop()


def test_states_of_the_record_are_the_enums(store: Store) -> None:
    id = submit(store)
    assert store.records.request_cancel(id, Reason.CANCELLED_BY_USER) is State.QUEUED
    assert store.records.cancel_requested([id]) == []
    claimed(store, id)
    assert store.records.request_cancel(id, Reason.CANCELLED_BY_OPERATOR) is State.STARTING
    assert store.records.cancel_requested([id]) == [id]
    assert store.records.cancelled(id).reason is Reason.CANCELLED_BY_OPERATOR
    with pytest.raises(NotFound):
        store.records.request_cancel("none", Reason.CANCELLED_BY_USER)


class Unheard:
    """A Redis that executes every command, and whose answers get lost."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost = 0
        self._take = store.records._steps.take
        monkeypatch.setattr(store.records._steps, "take", self)

    def __call__(self, step: Step) -> bool:
        done = self._take(step)
        if self.lost:
            self.lost -= 1
            raise StoreUnavailable()
        return done


def test_repeated_command_takes_effect_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    id = submit(store)
    claim, redis = claimed(store, id), Unheard(store, monkeypatch)
    sink = OutputSink(store, claim, 1000)
    sink.begin()
    for printed in (b"", b"one", b"two"):
        sink.write("stdout", printed)
        redis.lost = 1
        with pytest.raises(StoreUnavailable):
            sink.flush()
        sink.write("stdout", b"+")  # meanwhile
        sink.flush()
        sink.flush()
    redis.lost = 2
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            sink.commit(result())
    sink.commit(result())
    assert store.output.bytes_of(id, 1, "stdout") == [b"+one+two+"]
    states = [entry.data for entry in store.output.read(id) if entry.type == "state"]
    assert states == [b"queued", b"starting", b"running", b"succeeded"]
    assert counters(store) == {"queued": 0, "active": 0}


def test_announced_start_is_reported_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    id = submit(store)
    claim, redis = claimed(store, id), Unheard(store, monkeypatch)
    sink = OutputSink(store, claim, 1000)
    redis.lost = 1
    with pytest.raises(StoreUnavailable):
        sink.announce()
    sink.announce()
    assert store.records.get(id, None).state == "running"
    sink.begin()
    sink.write("stdout", b"said")
    sink.flush()
    sink.commit(result())
    states = [entry.data for entry in store.output.read(id) if entry.type == "state"]
    assert states == [b"queued", b"starting", b"running", b"succeeded"]


def test_first_output_after_running_state_is_sent_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.attempt.output.PAUSE_SECONDS", 60.0)
    id = submit(store)
    sink = OutputSink(store, claimed(store, id), 1000)
    sink.announce()
    for printed in (b"at once", b", a moment later"):
        sink.write("stdout", printed)
        sink.flush_if_due()
        assert store.output.bytes_of(id, 1, "stdout") == [b"at once"]
    assert sink.pause_seconds


def test_deleted_record_takes_the_rq_job_of_an_earlier_release_along(store: Store, settings: Settings) -> None:
    id = submit(store)
    store.redis.hset(f"rq:job:{id}", "status", "queued")
    assert store.records.end(id, cancelled(Reason.CANCELLED_BY_USER), "", None, (State.QUEUED,))
    store.redis.zadd(keys.EXPIRY, {id: 1})
    Janitor(store, settings).round(now())
    assert not store.redis.exists(keys.execution(id), f"rq:job:{id}")
