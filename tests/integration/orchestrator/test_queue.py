"""Slots on a real Redis: the executions they take, the faults they survive, the view of RQ's own tools, and the
cost.
"""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rq import Queue
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.worker import BaseWorker

from orchestrator import metrics, queue
from orchestrator.models import ISOLATIONS
from orchestrator.settings import Settings
from orchestrator.states import Reason, cancelled
from orchestrator.store import Store, keys, open_store
from orchestrator.store.connection import connect_plain
from tests.builders.counted import counted
from tests.builders.processes.slots import Handler, wait_for_idle_slots, working
from tests.builders.records import now, result, submit
from tests.harness import RedisServer, eventually
from worker import slots
from worker.slots import SlotWorker


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def store(server: RedisServer, tmp_path: Path) -> Iterator[Store]:
    made = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    yield made
    made.redis.close()


@pytest.fixture
def plain(server: RedisServer) -> Iterator[Any]:
    made = connect_plain(server.url, 5)
    yield made
    made.close()


@pytest.fixture
def serving(store: Store, plain: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SlotWorker, Handler]]:
    """A worker with two slots that takes what is queued."""
    monkeypatch.setattr(slots, "POP_SECONDS", 1)
    handler = Handler(store)
    worker = SlotWorker(store, plain, "w", 2, handler, offered=lambda: ISOLATIONS, paused=bool)
    with working(worker):
        yield worker, handler
        handler.may_end.set()


def state(store: Store, id: str) -> str:
    return store.records.get(id, None).state


def test_each_slot_runs_an_execution_at_a_time(store: Store, serving: tuple[SlotWorker, Handler]) -> None:
    worker, handler = serving
    ids = [submit(store) for _ in range(5)]
    eventually(lambda: sorted(handler.begun) == sorted(ids[:2]), "both slots have work")
    assert worker.busy == 2
    assert queue.depths(store)["default"] == 3
    handler.may_end.set()
    eventually(lambda: [state(store, id) for id in ids] == ["succeeded"] * 5, "every execution has ended")


def test_claims_wait_for_room_in_redis_and_are_counted(
    store: Store, plain: Any, serving: tuple[SlotWorker, Handler]
) -> None:
    worker, handler = serving
    handler.may_end.set()
    wait_for_idle_slots(store, 2)
    worker.paused = lambda: True  # until Redis is full: submission and claim need the same memory
    wait_for_idle_slots(store, 0)
    id = submit(store)
    plain.config_set("maxmemory", 1)
    plain.config_set("maxmemory-policy", "noeviction")
    began, before = time.monotonic(), metrics.claims_refused._value.get()
    worker.paused = bool
    eventually(lambda: metrics.claims_refused._value.get() >= before + 6, "both slots try again")
    assert time.monotonic() - began > slots.RECONNECT_SECONDS  # and do not spin
    assert state(store, id) == "queued"
    plain.config_set("maxmemory", 0)
    eventually(lambda: state(store, id) == "succeeded", "the execution runs once Redis has room")


def test_rq_sees_running_executions(store: Store, plain: Any, serving: tuple[SlotWorker, Handler]) -> None:
    worker, handler = serving
    eventually(lambda: [found.name for found in BaseWorker.all(connection=plain)] == ["w"], "the worker is registered")
    id = submit(store, priority="high")
    eventually(lambda: worker.busy == 1, "the execution runs")
    registry = StartedJobRegistry("t:high", connection=plain)
    assert registry.get_job_ids() == [id]
    plain.zadd(registry.key, {f"{id}:1": now() + 1})
    worker.beat()
    assert plain.zscore(registry.key, f"{id}:1") > now() + queue.BEGUN_SECONDS / 2
    (known,) = BaseWorker.all(connection=plain)
    assert (known.get_state(), known.successful_job_count) == ("busy", 0)
    handler.may_end.set()
    eventually(lambda: worker.busy == 0 and registry.count == 0, "the execution has ended")
    worker.beat()
    (known,) = BaseWorker.all(connection=plain)
    assert (known.get_state(), known.successful_job_count, known.failed_job_count) == ("idle", 1, 0)
    assert len(Queue("t:high", connection=plain)) == FailedJobRegistry("t:high", connection=plain).count == 0
    left = {key.decode() for key in plain.keys("rq:*")}
    assert not {key for key in left if id in key}


def test_rq_has_only_keys_that_its_tools_read(store: Store, plain: Any, serving: tuple[SlotWorker, Handler]) -> None:
    worker, handler = serving
    eventually(lambda: BaseWorker.all(connection=plain), "the worker is registered")
    for _ in range(3):
        submit(store)
    eventually(lambda: worker.busy == 2, "both slots are busy")
    worker.beat()
    of_worker = {f"rq:workers:{kind}" for kind in (*queue.queue_kinds(), "t:default")} | {"rq:workers", "rq:worker:w"}
    assert {key.decode() for key in plain.keys("rq:*")} == of_worker | {
        "rq:queues", "rq:queue:t:default", "rq:wip:t:default",
    }  # fmt: skip
    handler.may_end.set()
    eventually(lambda: {key.decode() for key in plain.keys("rq:*")} == of_worker, "every execution has ended")


def test_rq_finds_worker_by_its_queues(store: Store, plain: Any, serving: tuple[SlotWorker, Handler]) -> None:
    worker, _ = serving
    worker.offered = lambda: ("standard",)
    eventually(lambda: BaseWorker.all(connection=plain), "the worker is registered")
    submit(store, tenant="a-hardened")
    submit(store, priority="low", isolation="hardened")
    eventually(lambda: worker.busy == 1, "the worker has taken the execution that it can run")
    worker.beat()
    of = {
        name: [found.name for found in BaseWorker.all(queue=Queue(name, connection=plain))]
        for name in ("a-hardened:default", "t:low-hardened")
    }
    assert of == {"a-hardened:default": ["w"], "t:low-hardened": []}
    assert 0 < plain.ttl("rq:workers:a-hardened:default") <= queue.BEGUN_SECONDS
    queue.Deliveries(store.redis, plain, "w").dismiss()
    assert not plain.exists("rq:workers:a-hardened:default")


def test_retried_execution_runs_in_its_last_attempt_alone(store: Store, plain: Any) -> None:
    id = submit(store)
    deliveries = queue.Deliveries(store.redis, plain, "w")
    first = deliveries.take(ISOLATIONS)
    assert first is not None
    assert store.records.requeue(id, 1)
    assert queue.put_back(store, id)
    assert deliveries.take((), first) is None  # nothing is wanted, the first is over
    registry = StartedJobRegistry("t:default", connection=plain)
    assert (registry.count, len(Queue("t:default", connection=plain))) == (0, 1)
    second = deliveries.take(ISOLATIONS)
    assert second is not None
    assert (second.claim.id, second.claim.attempt) == (id, 2)
    deliveries.take((), first)  # reported twice: another attempt's entry stays
    assert registry.get_job_and_execution_ids() == [(id, "2")]
    store.records.start(second.claim, now())
    store.records.commit(second.claim, result())
    deliveries.take((), second)
    assert not plain.keys("rq:*")


def test_a_requeued_execution_keeps_its_place_by_age_and_priority(store: Store, plain: Any) -> None:
    ids = [submit(store, priority=priority) for priority in ("default", "high", "default", "high", "default", "low")]
    deliveries = queue.Deliveries(store.redis, plain, "w")
    by_place = [ids[place] for place in (1, 3, 0, 2, 4, 5)]
    taken = [take_of(deliveries) for _ in range(5)]
    assert [one.claim.id for one in taken] == by_place[:5]
    late = submit(store)
    for one in (taken[3], taken[0], taken[4], taken[2], taken[1]):  # in another order than they were submitted
        assert store.records.requeue(one.claim.id, 1)
        queue.put_back_after(store, one.claim.id, 0)
    assert [take_of(deliveries).claim.id for _ in range(7)] == [*by_place[:5], late, by_place[5]]


def take_of(deliveries: queue.Deliveries) -> queue.Taken:
    taken = deliveries.take(ISOLATIONS)
    assert taken is not None
    return taken


def test_requeued_execution_keeps_its_place_across_isolations(store: Store, plain: Any) -> None:
    first = submit(store)
    deliveries = queue.Deliveries(store.redis, plain, "w")
    taken = take_of(deliveries)
    second = submit(store, isolation="hardened")
    assert store.records.requeue(first, taken.claim.attempt)
    queue.put_back_after(store, first, 0)
    assert [take_of(deliveries).claim.id for _ in range(2)] == [first, second]


def test_ended_job_is_not_renewed(store: Store, plain: Any) -> None:
    submit(store)
    deliveries = queue.Deliveries(store.redis, plain, "w")
    taken = deliveries.take(ISOLATIONS)
    assert taken is not None
    store.records.start(taken.claim, now())
    store.records.commit(taken.claim, result())
    deliveries.take((), taken)
    before = set(plain.keys("rq:*"))
    deliveries.renew([taken])
    assert set(plain.keys("rq:*")) == before


def test_jobs_started_by_dead_workers_are_removed(store: Store, plain: Any) -> None:
    _, lost, alive = [submit(store) for _ in range(3)]
    deliveries = queue.Deliveries(store.redis, plain, "w")
    claims = [taken.claim for _ in range(3) if (taken := deliveries.take(ISOLATIONS))]
    store.records.start(claims[0], now())
    store.records.commit(claims[0], result())
    assert store.records.requeue(lost, 1)
    assert queue.sweep(store) == 2
    assert StartedJobRegistry("t:default", connection=plain).get_job_and_execution_ids() == [(alive, "1")]
    assert queue.sweep(store) == 0


def test_dead_workers_are_removed_from_rq(store: Store, plain: Any, serving: tuple[SlotWorker, Handler]) -> None:
    eventually(lambda: plain.smembers("rq:workers") == {b"rq:worker:w"}, "the worker is registered")
    plain.sadd("rq:workers", "rq:worker:dead")
    plain.sadd("rq:workers:high", "rq:worker:dead")
    queue.sweep(store)
    assert plain.smembers("rq:workers") == plain.smembers("rq:workers:high") == {b"rq:worker:w"}


def test_skipping_a_cancelled_execution_removes_its_queue(store: Store, plain: Any) -> None:
    id = submit(store)
    assert store.records.end(id, cancelled(Reason.CANCELLED_BY_USER), "", None)
    assert plain.smembers("rq:queues") == {b"rq:queue:t:default"}
    assert queue.Deliveries(store.redis, plain, "w").take(ISOLATIONS) is None
    assert not plain.keys("rq:*")


def test_slot_survives_errors_of_its_handler(store: Store, serving: tuple[SlotWorker, Handler]) -> None:
    worker, handler = serving
    failures = functools.partial(counted, "mayfly_worker_slot_failures_total")
    before = failures()
    handler.failures += [RuntimeError("a bug")] * 4
    ids = [submit(store) for _ in range(6)]
    handler.may_end.set()
    eventually(lambda: [state(store, id) for id in ids].count("succeeded") == 2, "the last two executions have ended")
    eventually(lambda: worker.busy == 0, "the slots are free")
    assert [state(store, id) for id in ids].count("starting") == 4  # the janitor's
    assert failures() - before == 4


def test_lost_answer_at_registration_does_not_stop_the_worker(store: Store, plain: Any) -> None:
    handler = Handler(store)
    handler.may_end.set()
    worker = SlotWorker(store, plain, "w", 1, handler, offered=lambda: ISOLATIONS, paused=bool)
    worker.register_birth()  # type: ignore[no-untyped-call]
    with working(worker):
        id = submit(store)
        eventually(lambda: state(store, id) == "succeeded", "the execution has run")


def test_slots_survive_unavailable_redis(
    store: Store, server: RedisServer, serving: tuple[SlotWorker, Handler]
) -> None:
    _, handler = serving
    handler.may_end.set()
    first = submit(store)
    eventually(lambda: state(store, first) == "succeeded", "the execution runs")
    server.stop(signal.SIGKILL)
    server.start()
    second = submit(store)
    eventually(lambda: state(store, second) == "succeeded", "the second execution has run")


def test_leaving_slot_returns_its_wake_up_token(store: Store, serving: tuple[SlotWorker, Handler]) -> None:
    worker, handler = serving
    wait_for_idle_slots(store, 2)

    def leaves() -> bool:  # called by the slot that has taken the token
        worker.leave()
        return False

    worker.paused = leaves
    id = submit(store)
    eventually(lambda: store.redis.llen(keys.bell("standard")) == 1, "the token is given back")
    assert (state(store, id), handler.begun) == ("queued", [])


def test_an_execution_costs_few_round_trips(store: Store, server: RedisServer, plain: Any) -> None:
    """Seven: submitted, the bell, claimed, begun with its first output, ended with its last, forgotten by RQ, read."""
    deliveries = queue.Deliveries(store.redis, plain, "w")
    watching: Any = server.client()

    def life() -> int:
        before = int(watching.info("stats")["total_reads_processed"])
        id = submit(store)
        assert deliveries.await_bell(ISOLATIONS, 1) is not None
        taken = deliveries.take(ISOLATIONS)
        assert taken is not None
        store.records.start(taken.claim, now(), [("stdout", b"1\n", False)])
        store.records.commit(taken.claim, result(), [("stdout", b"2\n", False)])
        deliveries.take((), taken)
        execution, entries = store.records.read(id, None)
        assert execution.state == "succeeded"
        assert [entry.data for entry in entries if entry.type == "stdout"] == [b"1\n", b"2\n"]
        return int(watching.info("stats")["total_reads_processed"]) - before - 1

    life()  # now Redis knows the scripts
    assert life() == 7
    watching.close()


def test_search_for_missing_jobs_scans_a_long_queue_seldom(store: Store, plain: Any) -> None:
    ids = [submit(store, tenant=f"t{number % 2}", limit=1000) for number in range(400)]
    lost = ids[150]
    assert plain.lrem("rq:queue:t0:default", 1, lost) == 1
    plain.config_resetstat()
    assert [queue.put_back(store, *ids[first : first + 50]) for first in range(0, 400, 50)] == [0, 0, 0, 1, 0, 0, 0, 0]
    searches = plain.info("commandstats")["cmdstat_lpos"]["calls"]
    assert searches <= 2 * 8 + 1, "one for each queue in each batch, and one for what is missing"
    assert [id.decode() for id in plain.lrange("rq:queue:t0:default", 0, -1)] == ids[::2]
    assert queue.put_back(store, lost) == 0
