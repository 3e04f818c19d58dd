"""Weights of tenants and the ageing of executions, by the order of claims on a real Redis at simulated times."""

from __future__ import annotations

import random
from collections import Counter
from heapq import heappop, heappush

import pytest

from orchestrator import queue
from orchestrator.models import ISOLATIONS, Priority
from orchestrator.models.tenants.quotas import TenantQuotas
from orchestrator.queue import Deliveries
from orchestrator.states import Reason, errored
from orchestrator.store import Store, keys, scripts
from orchestrator.store.accounting import AGEING_SECONDS
from orchestrator.store.executions.records import Claim
from tests.builders.records import submit

STARTS = 240


def end(store: Store, claim: Claim) -> None:
    assert store.records.end(claim.id, errored(Reason.INTERNAL), "", claim.attempt)


def shares(store: Store, slots: int, lengths: dict[str, float], seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Slots that are always busy serve tenants that always have something queued: the busy time and order of starts.

    ``lengths``: of each tenant's executions, on the average.
    """
    dice, deliveries = random.Random(seed), Deliveries(store.redis, store.redis, "w")
    running: list[tuple[float, str, str, int]] = []
    busy: Counter[str] = Counter()
    order: list[str] = []
    now = 0.0
    for tenant in lengths:
        for _ in range(2 * slots + 2):
            submit(store, tenant=tenant, limit=10_000)
    while len(order) < STARTS:
        while len(running) < slots:
            taken = deliveries.take(ISOLATIONS)
            assert taken is not None
            tenant = taken.queue.partition(":")[0]
            order.append(tenant)
            length = lengths[tenant] * dice.uniform(0.7, 1.3)
            busy[tenant] += length  # type: ignore[assignment]
            heappush(running, (now + length, tenant, taken.claim.id, taken.claim.attempt))
            submit(store, tenant=tenant, limit=10_000)
        now, _, id, attempt = heappop(running)
        end(store, Claim(id, attempt, b"", ""))
    return busy, order


@pytest.mark.parametrize("slots", [1, 2, 4, 8])
@pytest.mark.parametrize("weight", [3, None], ids=["weight", "control"])
def test_weight_gives_a_share_of_busy_slots(store: Store, slots: int, weight: int | None) -> None:
    store.quotas.put_tenant("heavy", TenantQuotas(weight=weight))
    busy, order = shares(store, slots, {"heavy": 1.0, "light": 1.0})
    ratio = busy["heavy"] / busy["light"]
    assert ratio == pytest.approx(weight or 1, rel=0.15), busy
    runs = "".join("h" if tenant == "heavy" else " " for tenant in order).split()
    assert slots > 1 or set(map(len, runs[1:-1])) == {weight or 1}, "turns are as long as the weight"


def test_long_programs_do_not_gain_from_a_weight_of_others(store: Store) -> None:
    """Shares are of slots, not of starts: programs that run ten times as long get no more slots."""
    store.quotas.put_tenant("heavy", TenantQuotas(weight=3))
    busy, _ = shares(store, 8, {"heavy": 1.0, "light": 10.0})
    assert busy["heavy"] / busy["light"] == pytest.approx(3, rel=0.35)


def test_newcomer_is_served_before_a_long_queue_of_a_heavy_tenant(store: Store) -> None:
    """All slots run executions of a tenant with the largest weight; the next free slot is another's."""
    store.quotas.put_tenant("heavy", TenantQuotas(weight=100))
    for _ in range(300):
        submit(store, tenant="heavy", limit=10_000)
    deliveries = Deliveries(store.redis, store.redis, "w")
    running = [taken for _ in range(4) if (taken := deliveries.take(ISOLATIONS))]
    submit(store, tenant="new", limit=10_000)
    end(store, running[0].claim)
    taken = deliveries.take(ISOLATIONS)
    assert taken is not None
    assert taken.queue.startswith("new:")


def test_spare_slot_passes_over_a_tenant_that_a_weight_puts_first(store: Store) -> None:
    store.quotas.put_tenant("heavy", TenantQuotas(weight=5))
    for tenant in ("heavy", "heavy", "other"):
        submit(store, tenant=tenant)
    deliveries = Deliveries(store.redis, store.redis, "w")
    taken = deliveries.take(ISOLATIONS)
    assert taken is not None
    assert taken.queue.startswith("heavy:")
    spare = deliveries.take(ISOLATIONS, spare=True)
    assert spare is not None
    assert spare.queue.startswith("other:")
    assert deliveries.take(ISOLATIONS, spare=True) is None
    assert store.redis.llen(keys.spare_bell("standard")) == 0, "no spare slot wakes in vain"
    assert store.redis.llen(keys.bell("standard")) == 1


def age(store: Store, seconds: float) -> None:
    """So much time passes for all that is queued."""
    for id in store.redis.zrange(keys.QUEUED, 0, -1):
        name = keys.execution(id.decode())
        store.redis.hset(name, "created_at", f"{float(store.redis.hget(name, 'created_at')) - seconds:.6f}")


def order_of(store: Store, deliveries: Deliveries) -> list[str]:
    found = []
    while taken := deliveries.take(ISOLATIONS):
        found.append(taken.claim.id)
        end(store, taken.claim)
    return found


@pytest.mark.parametrize(
    ("aged", "order"),
    [
        (0.0, ["high", "default", "low"]),
        (AGEING_SECONDS - 1.0, ["high", "default", "low"]),
        (AGEING_SECONDS + 1.0, ["high", "low", "default"]),
        (2 * AGEING_SECONDS + 1.0, ["low", "high", "default"]),
    ],
)
def test_priority_rises_with_age(store: Store, aged: float, order: list[Priority]) -> None:
    ids = {submit(store, priority="low"): "low"}
    age(store, aged)
    ids |= {submit(store, priority=priority): priority for priority in ("default", "high")}
    assert [ids[id] for id in order_of(store, Deliveries(store.redis, store.redis, "w"))] == order


@pytest.mark.parametrize("ages", [True, False], ids=["ageing", "control"])
def test_low_is_served_beside_a_steady_flow_of_high(store: Store, ages: bool) -> None:
    """A slot is free every ten seconds, and an execution of high priority comes every ten seconds."""
    deliveries = Deliveries(store.redis, store.redis, "w")
    if not ages:
        text = scripts.TAKE.replace(f"AGEING_SECONDS = {AGEING_SECONDS}", "AGEING_SECONDS = 1e9")
        assert text != scripts.TAKE
        deliveries._script = store.redis.script(text)
    waiting = [submit(store, priority="low") for _ in range(3)]
    served = {}
    submit(store, priority="high")
    for step in range(30):
        age(store, 10.0)
        submit(store, priority="high")
        taken = deliveries.take(ISOLATIONS)
        assert taken is not None
        end(store, taken.claim)
        served[taken.claim.id] = step
    starts = [served.get(id) for id in waiting]
    if ages:
        assert starts == sorted(filter(None, starts))
        assert max(filter(None, starts)) <= 2 * AGEING_SECONDS / 10 + 6
    else:
        assert starts == [None] * 3


def test_ahead_of_an_execution_are_those_of_its_priority_and_higher(store: Store) -> None:
    ids = [submit(store, priority=priority) for priority in ("high", "default", "default")]
    assert queue.ahead(store, store.records.get(ids[2], None)) == 2
