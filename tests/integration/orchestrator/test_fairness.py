"""Tenants take turns, on a real Redis: a tenant's next turn does not depend on other tenants' queues."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import pytest

from orchestrator import queue
from orchestrator.janitor.janitor import Janitor
from orchestrator.models import ISOLATIONS, PRIORITIES, Isolation
from orchestrator.settings import Settings
from orchestrator.states import Reason, cancelled, errored
from orchestrator.store import Store, keys
from orchestrator.store.connection import connect_plain
from orchestrator.store.executions.records import Claim
from tests.builders.processes.slots import Handler
from tests.builders.records import LATER, now, submit, take
from tests.harness import RedisServer, eventually
from worker.slots import SlotWorker

SLOTS, LENGTH_SECONDS = 2, 10


@pytest.fixture
def served(store: Store) -> Callable[..., str | None]:
    """Takes the next and gives its tenant; ends it at once unless it is to be kept."""

    def served(*, keep: bool = False, isolations: tuple[Isolation, ...] = ISOLATIONS) -> str | None:
        taken = queue.Deliveries(store.redis, store.redis, "w").take(isolations)
        if taken is None:
            return None
        if not keep:
            end(store, taken.claim)
        return taken.queue.partition(":")[0]

    return served


def end(store: Store, claim: Claim) -> None:
    assert store.records.end(claim.id, errored(Reason.INTERNAL), "", claim.attempt)


def lines(store: Store) -> dict[str, dict[str, float]]:
    found = {isolation: store.redis.zrange(keys.line(isolation), 0, -1, withscores=True) for isolation in ISOLATIONS}
    return {isolation: {name.decode(): score for name, score in line} for isolation, line in found.items()}


@pytest.mark.parametrize(("other", "before"), [("other", 1), ("innocent", 300)], ids=["tenants", "control"])
def test_long_queue_of_a_tenant_delays_no_other_tenant(
    store: Store, served: Callable[..., str | None], other: str, before: int
) -> None:
    """The control is one queue for all: both are one tenant."""
    for _ in range(300):
        submit(store, tenant=other, limit=1000)
    served(keep=True)
    innocent = submit(store, tenant="innocent", limit=1000)
    taken = 1
    while (claim := take(store)) is not None and claim.id != innocent:
        taken += 1
    assert taken == before


@pytest.mark.parametrize(
    ("starts", "queued"),
    [
        pytest.param(240, 300, id="20 minutes"),
        pytest.param(86_400 * SLOTS // LENGTH_SECONDS, 10_000, id="a day", marks=pytest.mark.complete),
    ],
)
def test_newcomer_starts_within_two_lengths_after_steady_load(store: Store, starts: int, queued: int) -> None:
    """Slots that are always busy, and a tenant that always has as many queued, at simulated times."""
    dice, deliveries = random.Random(1), queue.Deliveries(store.redis, store.redis, "w")
    running: list[tuple[float, int, Claim, str]] = []
    came: dict[str, float] = {}
    waits: dict[str, float] = {}
    now = 0.0
    for _ in range(queued):
        submit(store, tenant="long", limit=2 * queued, tenant_limit=2 * queued)
    for number in range(starts):
        if len(running) == SLOTS:
            now, _, ended, tenant = heappop(running)
            end(store, ended)
            store.records.delete(ended.id, tenant)
        taken = deliveries.take(ISOLATIONS)
        assert taken is not None
        tenant = taken.queue.partition(":")[0]
        heappush(running, (now + dice.uniform(0.7, 1.3) * LENGTH_SECONDS, number, taken.claim, tenant))
        if taken.claim.id in came:
            waits[taken.claim.id] = now - came[taken.claim.id]
        if tenant == "long":
            submit(store, tenant="long", limit=2 * queued, tenant_limit=2 * queued)
        if number % (starts // 24) == SLOTS:  # the newcomer, and beside it the control in the long queue
            for name in (f"new-{number}", "long"):
                came[submit(store, tenant=name, limit=2 * queued, tenant_limit=2 * queued)] = now
    newcomers = list(came)[::2]
    assert len(newcomers) == 24
    assert [id for id in newcomers if waits.get(id, now) > 2 * LENGTH_SECONDS] == []
    assert min(waits.get(id, now) for id in list(came)[1:11:2]) > 10 * LENGTH_SECONDS, "the control"


def test_tenants_take_turns_and_each_keeps_its_order(store: Store) -> None:
    ids = {tenant: [submit(store, tenant=tenant) for _ in range(3)] for tenant in ("a", "b", "c")}
    taken = []
    while (claim := take(store)) is not None:
        end(store, claim)
        taken.append(claim.id)
    assert taken == [ids[tenant][number] for number in range(3) for tenant in ("a", "b", "c")]


def test_tenant_with_the_fewest_running_is_first(store: Store, served: Callable[..., str | None]) -> None:
    for _ in range(6):
        submit(store, tenant="long")
    assert [served(keep=True) for _ in range(3)] == ["long"] * 3
    for _ in range(5):
        submit(store, tenant="other")
    assert [served() for _ in range(2)] == ["other"] * 2  # however often it was served: none of it runs
    assert [served(keep=True) for _ in range(3)] == ["other"] * 3
    assert [served(keep=True) for _ in range(3)] == ["long"] * 3


def test_ended_execution_improves_its_tenants_place(store: Store, served: Callable[..., str | None]) -> None:
    for tenant in ("a", "a", "b", "b"):
        submit(store, tenant=tenant)
    first = take(store)
    assert first is not None
    assert served(keep=True) == "b"
    end(store, first)
    assert [served(keep=True), served(keep=True)] == ["a", "b"]


def test_coming_back_is_no_way_to_the_front(store: Store, served: Callable[..., str | None]) -> None:
    for _ in range(10):
        submit(store, tenant="patient")
    submit(store, tenant="returns")
    order = []
    for _ in range(10):
        order.append(served())
        if order[-1] == "returns":  # the waiter has left the line, and is back before any other is served
            submit(store, tenant="returns")
    assert Counter(order) == {"patient": 5, "returns": 5}


def test_priorities_order_executions_within_a_tenant(store: Store, served: Callable[..., str | None]) -> None:
    for _ in range(5):
        submit(store, tenant="urgent", priority="high")
    low = submit(store, tenant="modest", priority="low")
    high = submit(store, tenant="modest", priority="high")
    taken = [claim.id for _ in range(4) if (claim := take(store))]
    assert high in taken[:2]
    assert low in taken[2:4]


def test_running_executions_count_across_isolations(store: Store, served: Callable[..., str | None]) -> None:
    for tenant, isolation in (("a", "hardened"), ("a", "standard"), ("b", "standard"), ("b", "hardened")):
        submit(store, tenant=tenant, isolation=isolation)
    assert served(keep=True, isolations=("hardened",)) == "a"
    assert served(isolations=("standard",)) == "b"
    assert served(isolations=("hardened",)) == "b"
    assert served(isolations=("hardened",)) is None
    assert served(isolations=("standard",)) == "a"


def test_tenant_with_nothing_queued_leaves_the_line(store: Store, served: Callable[..., str | None]) -> None:
    ids = [submit(store, tenant="gone", isolation=isolation) for isolation in (*ISOLATIONS, "standard")]
    submit(store, tenant="there")
    for id in ids:
        assert store.records.end(id, cancelled(Reason.CANCELLED_BY_USER), "", None)
    for id in ids[:2]:  # the third was cancelled by a process that died before this step
        queue.withdraw(store, store.records.get(id, None))
    assert sorted(queue.queue_names(store)) == ["gone:default", "there:default"]
    assert served(keep=True) == "there"
    assert lines(store) == {isolation: {} for isolation in ISOLATIONS}
    assert queue.queue_names(store) == ["there:default"]  # it runs
    assert [store.redis.llen(keys.bell(isolation)) for isolation in ISOLATIONS] == [0, 0]


def test_the_janitor_puts_tenants_back_in_line(
    store: Store, settings: Settings, served: Callable[..., str | None]
) -> None:
    """The state after a worker died just after handing an attempt back, or after Redis lost its last second."""
    lost, unlined = submit(store, tenant="lost"), submit(store, tenant="unlined")
    claim = take(store)
    assert claim is not None
    assert claim.id == lost
    assert store.records.requeue(lost, claim.attempt)
    store.redis.delete(keys.line("standard"))
    assert served() is None
    Janitor(store, settings).round(now() + LATER)
    assert {served(), served()} == {"lost", "unlined"}
    assert store.records.get(unlined, None).state == "errored"


def test_janitor_removes_stale_entries_from_the_line(
    store: Store, settings: Settings, served: Callable[..., str | None]
) -> None:
    store.redis.zadd(keys.QUEUED, {"0" * 32: now(), "f" * 32: now() - settings.queue_seconds})
    submit(store)
    store.redis.delete("rq:queue:t:default")
    Janitor(store, settings).round(now() + LATER)
    assert served() == "t"
    assert store.records.counts() == {"queued": 0, "active": 0}


def test_the_janitor_sets_counters_right(store: Store, settings: Settings, served: Callable[..., str | None]) -> None:
    """The state after Redis lost its last second: the records are the truth."""
    for tenant in ("a", "a", "b", "b"):
        submit(store, tenant=tenant)
    assert [served(keep=True), served()] == ["a", "b"]
    right = {tenant: store.redis.hgetall(keys.tenant_counters(tenant)) for tenant in "ab"}
    store.redis.hset(keys.tenant_counters("a"), mapping={"active": -1, "queued": 7})
    store.redis.hset(keys.tenant_counters("b"), "active", 5)
    Janitor(store, settings).round(now())
    assert {tenant: store.redis.hgetall(keys.tenant_counters(tenant)) for tenant in "ab"} == right
    assert [served(), served()] == ["b", "a"]  # and with them their places
    assert store.records.recount() == 0


@pytest.mark.parametrize(("spare_slots", "begun"), [(1, 1), (0, 0)], ids=["spare", "control"])
def test_spare_slot_serves_tenant_with_nothing_running(
    store: Store, server: RedisServer, spare_slots: int, begun: int
) -> None:
    plain: Any = connect_plain(server.url, 5)
    handler = Handler(store)
    worker = SlotWorker(store, plain, "w", 2, handler, spare_slots, offered=lambda: ISOLATIONS, paused=bool)
    thread = threading.Thread(target=worker.work_until_left)
    thread.start()
    for _ in range(4):
        submit(store, tenant="long")
    eventually(lambda: len(handler.begun) == 2, "the tenant's programs have both slots")
    innocent = [submit(store, tenant="innocent") for _ in range(2)]
    with contextlib.suppress(AssertionError):
        eventually(lambda: len(handler.begun) > 2, "the spare slot is busy", 30 if begun else 2)
    assert handler.begun[2:] == innocent[:begun]
    handler.may_end.set()
    eventually(lambda: len(handler.begun) == 6 and worker.busy == 0, "every execution has ended")
    worker.leave()
    thread.join()
    plain.close()
    assert not store.redis.keys("mayfly:bell:*")


def test_spare_slot_opens_when_all_others_are_busy(store: Store, server: RedisServer) -> None:
    """Also while the spare slot reports its end; otherwise it would wait for half a second."""
    plain: Any = connect_plain(server.url, 5)
    may_end: dict[str, threading.Event] = {}
    begun = []

    def run(claim: Claim) -> None:
        may_end[claim.id] = threading.Event()
        begun.append(claim.id)
        assert may_end[claim.id].wait(60)
        end(store, claim)

    worker = SlotWorker(store, plain, "w", 1, run, 1, offered=lambda: ISOLATIONS, paused=bool)
    take, wait_to_leave, pauses = worker._deliveries.take, worker._leaving.wait, []
    long: list[str] = []

    def filled_meanwhile(lanes: Any, done: Any = None, *, spare: bool = False) -> Any:
        if spare and done and len(long) == 2:
            long.append(submit(store, tenant="long"))
            eventually(lambda: worker.busy == 1, "the other slot is busy again")
        return take(lanes, done, spare=spare)

    worker._deliveries.take = filled_meanwhile  # type: ignore[method-assign]

    def wait(timeout: float | None = None) -> bool:
        if timeout is None:
            return wait_to_leave()
        pauses.append(timeout)
        return False

    worker._leaving.wait = wait  # type: ignore[method-assign]
    thread = threading.Thread(target=worker.work_until_left)
    thread.start()
    try:
        for tenant in ("long", "innocent"):
            long.append(submit(store, tenant=tenant))
            eventually(lambda: begun == long, "both slots and the spare slot run")
        for id in tuple(begun):
            may_end[id].set()
            eventually(lambda: not worker._taken.get(id), "the execution has ended")  # noqa: B023 - called at once
        eventually(lambda: begun == long and len(long) == 3, "the spare slot has reported its end")
        last = submit(store, tenant="innocent")
        eventually(lambda: last in begun, "the spare slot takes the last execution")
        assert pauses == []
    finally:
        del worker._leaving.wait
        worker.leave()
        for id in begun:
            may_end[id].set()
        thread.join()
        plain.close()


def test_an_idle_worker_is_woken_by_any_tenant(store: Store, served: Callable[..., str | None]) -> None:
    deliveries = queue.Deliveries(store.redis, store.redis, "w")
    for tenant in ("a", "b", "a", "c"):
        submit(store, tenant=tenant)
        assert deliveries.await_bell(ISOLATIONS, 1)
        assert served() == tenant
    assert deliveries.await_bell(ISOLATIONS, 1) is None


@pytest.mark.parametrize("seed", range(3))
def test_line_matches_the_model_after_any_steps(store: Store, seed: int) -> None:
    """Of the waiting tenants, the next has the fewest running executions, and of these the oldest turn."""
    dice = random.Random(seed)
    deliveries = queue.Deliveries(store.redis, store.redis, "w")
    waiting: Counter[tuple[str, str]] = Counter()  # by tenant and isolation
    running: dict[str, list[tuple[Claim, str]]] = {tenant: [] for tenant in "abcd"}
    turns = dict.fromkeys(running, 0)
    for step in range(1, 300):
        tenant, isolation = dice.choice("abcd"), dice.choice(ISOLATIONS)
        match dice.choice(["submit", "submit", "take", "take", "end", "give back"]):
            case "submit":
                submit(store, tenant=tenant, isolation=isolation, priority=dice.choice(PRIORITIES), limit=1000)
                waiting[tenant, isolation] += 1
            case "take":
                offered = dice.choice([ISOLATIONS, (isolation,)])
                taken = deliveries.take(offered)
                in_line = {name for (name, tier), count in waiting.items() if count and tier in offered}
                if taken is None:
                    assert not in_line
                    continue
                name, kind = taken.queue.split(":")
                least = min((len(running[name]), turns[name]) for name in in_line)
                assert (len(running[name]), turns[name]) == least
                tier = "hardened" if kind.endswith("hardened") else "standard"
                waiting[name, tier] -= 1
                running[name].append((taken.claim, tier))
                turns[name] = step
            case "end" if running[tenant]:
                end(store, running[tenant].pop()[0])
            case "give back" if running[tenant]:
                claim, tier = running[tenant].pop()
                assert store.records.requeue(claim.id, claim.attempt)
                assert queue.put_back(store, claim.id) == 1
                assert queue.put_back(store, claim.id) == 0
                waiting[tenant, tier] += 1
        for tier in ISOLATIONS:
            assert set(lines(store)[tier]) == {name for name in running if waiting[name, tier]}
