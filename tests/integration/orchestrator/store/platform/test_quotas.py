"""Quotas on a real Redis: exact under parallel submitters, given back however an execution ends, and repaired."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import product
from typing import Any

import pytest

from orchestrator import queue
from orchestrator.audit import Writer
from orchestrator.errors import QuotaExceeded
from orchestrator.identity import Principal
from orchestrator.identity.api_keys import ApiKeys, NewKey
from orchestrator.identity.tenants import Records
from orchestrator.janitor.janitor import Janitor
from orchestrator.models import ISOLATIONS, Artifact, Usage
from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas
from orchestrator.service.administration.keys import KeyCases
from orchestrator.service.administration.quotas import QuotaCases
from orchestrator.service.administration.tenants import TenantCases
from orchestrator.settings import Settings
from orchestrator.states import Reason, State, cancelled, errored
from orchestrator.store import Store, keys, open_store
from orchestrator.store.connection import connect_plain
from orchestrator.store.executions.records import Claim
from orchestrator.store.platform.quotas import Use
from tests.builders.processes.slots import Handler, working
from tests.builders.records import LATER, claimed, now, result, specification, submit, take
from tests.harness import RedisServer, eventually
from worker import slots
from worker.slots import SlotWorker


def offer(store: Store, tenant: str = "t", key: str = "k") -> str:
    return submit(store, tenant=tenant, key=key, limit=10_000, tenant_limit=10_000)


def refused(store: Store, tenant: str = "t", key: str = "k") -> tuple[str, str, float, float]:
    with pytest.raises(QuotaExceeded) as caught:
        offer(store, tenant, key)
    error = caught.value
    return error.quota, error.of, error.bound or 0, error.used


def finish(store: Store, id: str, **used: Any) -> None:
    claim = claimed(store, id)
    store.records.start(claim, now())
    store.records.commit(claim, result().model_copy(update=used))


def ran(cpu_seconds: float) -> dict[str, Any]:
    return {"usage": Usage(wall_seconds=1.0, cpu_seconds=cpu_seconds)}


@pytest.fixture
def other(settings: Settings) -> Iterator[Store]:
    """The store of another API process."""
    made = open_store(settings)
    yield made
    made.redis.close()


NUMBERS = {"queued": 7, "executions_per_day": 7, "cpu_seconds_per_day": 7 * 5.0 + 4.9, "submissions_per_second": 7}


@pytest.mark.parametrize(("of", "name"), [*product(("tenant", "key"), (*NUMBERS, "stored_bytes"))])
def test_quota_is_exact_under_parallel_submitters(store: Store, other: Store, of: str, name: str) -> None:
    size = int(store.redis.hget(keys.execution(submit(store, tenant="u", key="x")), "bytes"))
    quotas = {name: NUMBERS.get(name, 7 * size + size - 1)}
    if of == "key":
        store.quotas.put_key("k", KeyQuotas.model_validate(quotas))
    else:
        store.quotas.put_tenant("t", TenantQuotas.model_validate(quotas))
    assert specification().limits.cpu_seconds == 5.0
    begin = threading.Barrier(16)
    errors: list[QuotaExceeded] = []

    def submitter(number: int) -> int:
        begin.wait()
        accepted = 0
        for _ in range(4):
            try:
                offer((store, other)[number % 2])
                accepted += 1
            except QuotaExceeded as error:
                errors.append(error)
        return accepted

    began = now()
    with ThreadPoolExecutor(16) as threads:
        accepted = sum(threads.map(submitter, range(16)))
    if name == "submissions_per_second":  # the burst of a second, and what came while the test ran
        assert 7 <= accepted <= 8 + 7 * (now() - began)
    else:
        assert accepted == 7
    assert {(error.quota, error.of) for error in errors} == ({(name, of)} if accepted < 64 else set())
    assert all(error.retry_after_seconds >= 1 for error in errors)
    assert offer(store, "another", "another key")


@pytest.mark.parametrize("of", ["tenant", "key"])
@pytest.mark.parametrize("way", ["claimed", "cancelled", "expired", "requeued", "deleted record"])
def test_place_in_the_queue_is_given_back(store: Store, settings: Settings, way: str, of: str) -> None:
    if of == "tenant":
        store.quotas.put_tenant("t", TenantQuotas(queued=2))
    else:
        store.quotas.put_key("k", KeyQuotas(queued=2))
    first, _ = offer(store), offer(store)
    assert refused(store) == ("queued", of, 2, 2)
    match way:
        case "claimed":
            claimed(store, first)
        case "cancelled":
            assert store.records.end(first, cancelled(Reason.CANCELLED_BY_USER), "", None, (State.QUEUED,))
        case "expired":
            assert store.records.end(first, errored(Reason.QUEUE_EXPIRED), "", None, (State.QUEUED,))
        case "requeued":  # it waits again, and counts again
            claim = claimed(store, first)
            offer(store)
            assert store.records.requeue(first, claim.attempt)
            assert refused(store) == ("queued", of, 2, 3)
            claimed(store, offered_again(store, first))
            return
        case "deleted record":  # a Redis that lost writes: the janitor corrects what is counted
            store.redis.delete(keys.execution(first))
            store.redis.zrem(keys.QUEUED, first)
            assert refused(store) == ("queued", of, 2, 2)
            assert store.records.recount() == 4
    offer(store)
    assert refused(store)[0] == "queued"


def offered_again(store: Store, id: str) -> str:
    queue.put_back(store, id)
    return id


def test_cpu_time_is_reserved_until_the_end_and_then_counts_as_used(store: Store) -> None:
    store.quotas.put_tenant("t", TenantQuotas(cpu_seconds_per_day=11.0))  # each reserves five
    first, second = offer(store), offer(store)
    assert refused(store) == ("cpu_seconds_per_day", "tenant", 11.0, 10.0)
    finish(store, first, **ran(1.5))
    assert refused(store)[3] == 6.5
    assert store.records.end(second, cancelled(Reason.CANCELLED_BY_USER), "", None, (State.QUEUED,))
    finish(store, offer(store), **ran(5.5))  # a little more than its limit
    with pytest.raises(QuotaExceeded) as caught:
        offer(store)
    assert caught.value.used == 7.0
    assert caught.value.retry_after_seconds > 5, "only midnight helps"
    assert store.quotas.use_of_tenant("t")._replace(stored_bytes=0) == Use(0, 0, 0, 3, 7_000_000, stored_bytes=0)
    store.redis.hincrby(keys.tenant_counters("t"), "day", -1)  # and then it is midnight
    assert store.quotas.use_of_tenant("t").accepted == 0
    offer(store)
    assert store.quotas.use_of_tenant("t").cpu_microseconds == 0


def test_rate_of_submissions_refills(store: Store) -> None:
    store.quotas.put_key("k", KeyQuotas(submissions_per_second=2.5))
    began, accepted = now(), 0
    with suppress(QuotaExceeded):
        while accepted < 1000:
            offer(store)
            accepted += 1
    assert 2 <= accepted <= 4 + 2.5 * (now() - began)
    store.redis.hincrbyfloat(keys.key_counters("k"), "next", -0.41)  # so much later
    offer(store)


@pytest.mark.parametrize("of", ["tenant", "key"])
def test_stored_bytes_count_until_deletion(store: Store, of: str) -> None:
    artifact = Artifact(path="a", size=50_000, media_type="text/plain", sha256="0" * 64)
    if of == "tenant":
        store.quotas.put_tenant("t", TenantQuotas(stored_bytes=110_000))
    else:
        store.quotas.put_key("k", KeyQuotas(stored_bytes=110_000))
    kept = [offer(store), offer(store)]
    for id in kept:
        finish(store, id, artifacts=(artifact,))
    quota, owner, bound, used = refused(store)
    assert (quota, owner, bound, used > 100_000) == ("stored_bytes", of, 110_000, True)
    assert store.quotas.use_of_tenant("t").stored_bytes == store.quotas.use_of_key("k").stored_bytes == used
    assert store.records.delete(kept[0], "t")
    last = offer(store)
    assert store.records.end(last, cancelled(Reason.CANCELLED_BY_USER), "", None, (State.QUEUED,))
    for id in (kept[1], last):
        assert store.quotas.use_of_key("k").stored_bytes > 0
        assert store.records.delete(id, "t")
    assert store.quotas.use_of_tenant("t").stored_bytes == store.quotas.use_of_key("k").stored_bytes == 0
    assert not store.redis.exists(keys.key_counters("k")), "nothing is left of a key that does not exist"


def test_output_outside_of_redis_counts_as_stored(store: Store) -> None:
    claim = claimed(store, offer(store))
    store.records.start(claim, now())
    before = store.quotas.use_of_tenant("t").stored_bytes
    assert store.output.append(claim.id, claim.attempt, [("stdout", b"0 70000", 2), ("stdout", b"70000 5", 2)])
    assert store.quotas.use_of_tenant("t").stored_bytes - before > 70_005
    assert store.quotas.use_of_key("k").stored_bytes == store.quotas.use_of_tenant("t").stored_bytes
    store.records.commit(claim, result())
    assert store.records.delete(claim.id, "t")
    assert store.quotas.use_of_tenant("t").stored_bytes == 0


def test_change_is_in_force_with_the_next_submission_of_any_process(store: Store, other: Store) -> None:
    for _ in range(3):
        offer(store)
        offer(other)
    store.quotas.put_tenant("t", TenantQuotas(queued=6))
    assert refused(other) == ("queued", "tenant", 6, 6)
    other.quotas.put_tenant("t", TenantQuotas(queued=7))
    offer(store)
    assert refused(store)[2] == 7
    store.quotas.put_tenant("t", TenantQuotas())
    assert store.redis.hlen(keys.QUOTAS) == 0
    offer(other)


def test_default_quotas_apply_unless_overridden(settings: Settings) -> None:
    defaults = {"tenant_quotas": TenantQuotas(queued=1, running=3), "key_quotas": KeyQuotas(executions_per_day=9)}
    store = open_store(settings.model_copy(update=defaults))
    offer(store)
    assert refused(store) == ("queued", "tenant", 1, 1)
    store.quotas.put_tenant("t", TenantQuotas(weight=2))
    assert refused(store) == ("queued", "tenant", 1, 1)
    assert store.quotas.put_tenant("t", TenantQuotas(queued=None)) == TenantQuotas(running=3)
    offer(store)
    assert store.quotas.of_key("k") == KeyQuotas(executions_per_day=9)
    store.redis.close()


def test_running_quota_keeps_executions_queued_and_delays_no_other_tenant(store: Store) -> None:
    store.quotas.put_tenant("t", TenantQuotas(running=2))
    for _ in range(5):
        offer(store)
    others = [offer(store, "other", "") for _ in range(3)]
    claims = [claim for _ in range(8) if (claim := take(store))]
    assert len(claims) == 5
    assert {claim.id for claim in claims} >= set(others)
    assert take(store) is None
    own = next(claim for claim in claims if claim.id not in others)
    assert store.records.end(own.id, errored(Reason.INTERNAL), "", own.attempt)
    assert take(store) is not None
    assert take(store) is None
    assert store.redis.llen(keys.bell("standard")) == 0
    store.quotas.put_tenant("t", TenantQuotas(running=4))
    assert store.redis.llen(keys.bell("standard")) >= 2, "a slot wakes for each execution that may start"
    assert [bool(take(store)) for _ in range(3)] == [True, True, False]
    store.quotas.put_tenant("t", TenantQuotas(running=0))
    offer(store)
    assert take(store) is None
    assert store.records.counts()["queued"] == 1


def test_running_quota_of_a_key_delays_no_other_key_of_its_tenant(store: Store) -> None:
    deliveries = queue.Deliveries(store.redis, store.redis, "w")
    store.quotas.put_key("k", KeyQuotas(running=1))
    own = [offer(store) for _ in range(5)]
    others = [offer(store, "t", "other") for _ in range(2)]
    first, *rest = (deliveries.take(ISOLATIONS) for _ in range(4))
    assert first is not None
    assert [taken and taken.claim.id for taken in (first, *rest)] == [own[0], *others, None]
    assert store.records.counts() == {"queued": 4, "active": 3}
    assert store.redis.llen(keys.bell("standard")) == 0
    assert queue.put_back(store, *own[1:]) == 0, "the janitor leaves held executions"
    assert deliveries.take(ISOLATIONS) is None
    assert store.records.end(own[1], cancelled(Reason.CANCELLED_BY_USER), "", None, (State.QUEUED,))
    assert store.redis.zcard(keys.key_held("k")) == 3
    assert store.records.end(first.claim.id, errored(Reason.INTERNAL), "", first.claim.attempt)
    second = deliveries.take(ISOLATIONS, first)
    assert second is not None
    assert second.claim.id == own[2], "the oldest that still waits"
    assert store.records.requeue(own[2], second.claim.attempt)  # and its worker is lost
    assert (queue.put_back(store, own[2]), queue.release(store)) == (1, 1)
    assert [bool(deliveries.take(ISOLATIONS)) for _ in range(2)] == [True, False]
    store.quotas.put_key("k", KeyQuotas(running=2))
    assert queue.release(store, "k") == 1
    assert [bool(deliveries.take(ISOLATIONS)) for _ in range(2)] == [True, False]
    store.quotas.put_key("k", KeyQuotas())
    assert (queue.release(store), store.redis.scard(keys.HOLDING)) == (1, 0)
    assert deliveries.take(ISOLATIONS) is not None
    assert store.records.counts() == {"queued": 0, "active": 5}


def test_raised_running_quota_of_a_key_releases_held_executions(store: Store) -> None:
    """At once, and not with the next end or round of the janitor."""
    audit, api_keys, admin = Writer(b"secret"), ApiKeys(store, None, b"secret"), of_admin()
    tenants = TenantCases(Records(store), audit)
    cases = QuotaCases(store, tenants, KeyCases(api_keys, tenants, audit), audit)
    key = api_keys.create(NewKey(name="n", scopes=("mcp",), quotas=KeyQuotas(running=0)))[0].id
    store.quotas.put_key(key, KeyQuotas(running=0))
    for _ in range(130):
        offer(store, "default", key)
    while store.redis.zcard(keys.key_held(key)) < 130:
        assert take(store) is None
    cases.put_key(admin, key, KeyQuotas(running=90))
    assert store.redis.zcard(keys.key_held(key)) == 40
    cases.put_key(admin, key, KeyQuotas())
    assert (store.redis.zcard(keys.key_held(key)), store.redis.scard(keys.HOLDING)) == (0, 0)
    assert sum(bool(take(store)) for _ in range(130)) == 130


def of_admin() -> Principal:
    return Principal(id="key:admin", key_id="admin", tenant="default", scopes=frozenset({"admin"}))


def test_many_held_executions_are_passed_over_in_bounded_steps(store: Store) -> None:
    store.quotas.put_key("k", KeyQuotas(running=0))
    for _ in range(250):
        offer(store)
    last = offer(store, "t", "other")
    taken = [take(store) for _ in range(3)]
    assert [claim and claim.id for claim in taken] == [None, None, last]
    assert (store.redis.zcard(keys.key_held("k")), store.quotas.use_of_key("k").queued) == (250, 250)
    assert store.records.recount() == 0


@contextmanager
def some_worker(store: Store, server: RedisServer, handler: Callable[[Claim], None], count: int) -> Iterator[None]:
    plain: Any = connect_plain(server.url, 900)
    worker = SlotWorker(store, plain, "w", count, handler, 0, offered=lambda: ISOLATIONS, paused=bool)
    with closing(plain), working(worker):
        yield


@pytest.fixture
def no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """No slot looks by itself while a test lasts: it takes only what wakes it."""
    monkeypatch.setattr(slots, "POP_SECONDS", 600)


@pytest.mark.usefixtures("no_look")
def test_raised_running_quota_wakes_idle_slots(store: Store, server: RedisServer) -> None:
    handler = Handler(store)
    store.quotas.put_tenant("t", TenantQuotas(running=1))
    with ExitStack() as stack:
        stack.enter_context(some_worker(store, server, handler, 3))
        stack.callback(handler.may_end.set)
        for _ in range(3):
            offer(store)
        eventually(lambda: len(handler.begun) == 1, "an execution runs")
        eventually(lambda: store.redis.info("clients")["blocked_clients"] == 2, "the other slots wait")
        assert (len(handler.begun), store.redis.exists(keys.bell("standard"))) == (1, 0)
        store.quotas.put_tenant("t", TenantQuotas(running=3))
        eventually(lambda: len(handler.begun) == 3, "three executions run")
        handler.may_end.set()
        eventually(lambda: store.records.counts() == {"queued": 0, "active": 0}, "every execution has ended")
    assert store.quotas.use_of_tenant("t")[:3] == (0, 0, 0)


@pytest.mark.usefixtures("no_look")
def test_executions_of_a_key_at_its_running_quota_start_one_after_the_other(store: Store, server: RedisServer) -> None:
    handler = Handler(store)
    store.quotas.put_key("k", KeyQuotas(running=1))
    with ExitStack() as stack:
        stack.enter_context(some_worker(store, server, handler, 3))
        stack.callback(handler.may_end.set)
        for _ in range(4):
            offer(store)
        eventually(lambda: (store.redis.zcard(keys.key_held("k")), len(handler.begun)) == (3, 1), "the others are held")
        handler.may_end.set()
        eventually(lambda: store.records.counts() == {"queued": 0, "active": 0}, "every execution has ended")
    assert store.quotas.use_of_key("k")[:3] == (0, 0, 0)


def test_lost_counters_are_repaired(store: Store, settings: Settings) -> None:
    first, _ = offer(store), offer(store)
    claim = claimed(store, first)
    store.redis.hset("mayfly:api-keys", "k", "{}")
    store.redis.hset(keys.TENANTS, "t", "a{}")
    right = store.quotas.use_of_tenant("t"), store.quotas.use_of_key("k")
    for name in (keys.tenant_counters("t"), keys.key_counters("k")):
        store.redis.hset(name, mapping={"queued": 9, "active": -4, "reserved": 1})
    for name in (keys.tenant_room("t"), keys.key_counters("k")):
        store.redis.hset(name, mapping={"bytes": -7, "files": 10**9})
    Janitor(store, settings).round(now())
    assert (store.quotas.use_of_tenant("t"), store.quotas.use_of_key("k")) == right
    assert store.records.end(claim.id, errored(Reason.INTERNAL), "", claim.attempt)
    store.redis.hset(keys.key_counters("k"), "queued", 3)
    Janitor(store, settings).round(now() + LATER)
    assert store.quotas.use_of_key("k").queued == 1


def test_malformed_quotas_count_as_none(store: Store) -> None:
    store.redis.hset(keys.QUOTAS, mapping={"tt": "12345678[", "kk": "1"})
    offer(store)
    assert store.quotas.of_tenant("t") == TenantQuotas()
