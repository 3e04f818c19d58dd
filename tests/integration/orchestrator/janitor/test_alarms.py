"""Counting and reporting on a real Redis: by the real scripts, once for each burst, by the lease's holder."""

from __future__ import annotations

import time
from typing import Any

from orchestrator import anomaly, queue
from orchestrator.anomaly import BUCKET_SECONDS, BUCKETS, EVERYONE_ELSE, KEPT_SECONDS, MOST_SERIES, Series
from orchestrator.janitor.alarms import QUIET_BUCKETS, Alarms
from orchestrator.janitor.janitor import Janitor
from orchestrator.models import Facts, Result, Timings
from orchestrator.models.security import SecurityEvent
from orchestrator.settings import Settings
from orchestrator.states import Reason, State, cancelled, classify, errored
from orchestrator.store import Store, keys, open_store
from orchestrator.store.steps import SECURITY
from tests.builders.records import claimed, now, submit
from tests.harness import eventually

BLOCKED = SecurityEvent("oom_killed", "Memory passed 96 MiB.", "cgroup")


def run(store: Store, exit_code: int = 0, signal: int | None = None, blocked: int = 0, tenant: str = "t") -> None:
    """One execution, from submission to its end, as API and worker write it."""
    id = submit(store, tenant=tenant)
    claim = claimed(store, id)
    store.records.start(claim, now())
    for _ in range(blocked):
        store.output.append(id, claim.attempt, [("security", BLOCKED, SECURITY)])
    facts = Facts(exit_code=exit_code, signal=signal)
    verdict = classify(facts, None)  # type: ignore[arg-type]
    store.records.commit(
        claim,
        Result(
            state=verdict.state, reason=verdict.reason, fault=verdict.fault, facts=facts, driver="docker",
            runtime="runc", start="cold", exit_code=exit_code, signal=None, stdout_bytes=0, stderr_bytes=0,
            compile=None, artifacts=(), usage=None, timings=Timings(),
        ),
    )  # fmt: skip


def counted(store: Store) -> dict[Series, int]:
    """The sums over all buckets."""
    now = store.rates.bucket()
    total: dict[Series, int] = {}
    for bucket in store.rates.read(range(now - BUCKETS, now + 1)):
        for series, count in bucket.items():
            total[series] = total.get(series, 0) + count
    return total


def of_everything(**counts: int) -> dict[Series, int]:
    names = {"tenant": "t", "environment": "python", "worker": "w"}
    return {Series(d, name, what): count for d, name in names.items() for what, count in counts.items()}


def give_a_past(store: Store, per_bucket: int = 10) -> None:
    """An hour in which executions ended well: what the scripts would have counted."""
    now = store.rates.bucket()
    with store.redis.pipeline(transaction=False) as pipe:
        for bucket in range(now - BUCKETS - 60, now):
            for series in of_everything(ok=per_bucket):
                pipe.hset(f"{keys.RATES}{bucket}", f"{series.dimension}|ok|{series.name}", per_bucket)
        pipe.set(keys.RATES_SINCE, now - BUCKETS - 60)
        pipe.execute()


def move(store: Store, buckets: int) -> None:
    """Time passes: what was counted was that many buckets earlier."""
    now = store.rates.bucket()
    for bucket in range(now - BUCKETS - 60, now + 1):
        if store.redis.exists(f"{keys.RATES}{bucket}"):
            store.redis.rename(f"{keys.RATES}{bucket}", f"{keys.RATES}{bucket - buckets}")
    store.redis.decrby(keys.RATES_SINCE, buckets)
    for series, alarm in store.rates.alarms().items():
        store.rates.keep(series, alarm._replace(began=alarm.began - buckets, last=alarm.last - buckets))


def reported(store: Store) -> list[dict[str, Any]]:
    return [entry.event for entry in store.security.read(tenant=None).items if entry.kind == "anomaly"]


def test_every_end_of_an_attempt_counts_once(store: Store) -> None:
    run(store)
    run(store, exit_code=1)
    run(store, exit_code=159, signal=31)
    lost = claimed(store, submit(store))
    assert store.records.requeue(lost.id, lost.attempt)
    assert not store.records.requeue(lost.id, lost.attempt)
    assert queue.put_back(store, lost.id)
    again = claimed(store, lost.id)
    assert store.records.end(again.id, errored(Reason.RUNTIME_UNAVAILABLE), "No.", again.attempt)
    assert not store.records.end(again.id, errored(Reason.RUNTIME_UNAVAILABLE), "No.", again.attempt)
    gone = claimed(store, submit(store))
    assert store.records.end(gone.id, cancelled(), "Gone.", gone.attempt)
    assert counted(store) == of_everything(ok=2, user=1, policy=1, platform=2)


def test_an_end_without_a_worker_counts_for_no_worker(store: Store) -> None:
    id = submit(store)
    assert store.records.end(id, errored(Reason.QUEUE_EXPIRED), "Late.", None, (State.QUEUED,))
    assert {series.dimension for series in counted(store)} == {"tenant", "environment"}


def test_an_execution_with_security_events_counts_once(store: Store) -> None:
    run(store, blocked=7)
    run(store, blocked=1)
    assert counted(store) == of_everything(ok=2, security=2)


def test_api_refusals_count_as_the_apis_failures(store: Store) -> None:
    for _ in range(3):
        store.security.count("auth_failure", "192.0.2.1")
    assert counted(store) == {Series("source", "api", "security"): 3}


def test_counters_are_bounded_and_go_away(store: Store) -> None:
    now = store.rates.bucket()
    for bucket in (now, now + 1):
        full = {f"tenant|ok|{n}": 1 for n in range(MOST_SERIES - 3)}
        store.redis.hset(f"{keys.RATES}{bucket}", mapping=full)
    run(store, tenant="known")
    for tenant in ("one", "two", "known"):
        run(store, tenant=tenant)
    found = counted(store)
    assert found[Series("tenant", "known", "ok")] == 2
    assert found[Series("tenant", EVERYONE_ELSE, "ok")] == 2
    assert Series("tenant", "one", "ok") not in found
    store.redis.delete(*store.redis.keys(f"{keys.RATES}*"))
    run(store)
    for key in store.redis.keys(f"{keys.RATES}*"):
        assert BUCKETS * BUCKET_SECONDS < store.redis.ttl(key) <= KEPT_SECONDS


def test_burst_is_reported_once_by_the_lease_holder(store: Store, settings: Settings) -> None:
    give_a_past(store)
    first = Janitor(store, settings)
    first.round(time.time())
    assert reported(store) == []
    for _ in range(12):
        run(store, exit_code=1)
    move(store, 1)
    Alarms(store).round()
    events = reported(store)
    assert {(event["dimension"], event["name"]) for event in events} == {
        ("tenant", "t"), ("environment", "python"), ("worker", "w"),
    }  # fmt: skip
    for event in events:
        assert (event["what"], event["observed"], event["expected"], event["threshold"]) == ("user", 12, 0, 10)
        assert (event["window_seconds"], event["past_seconds"]) == (60, 3600)
        assert event["ended"] in (12 + 5 * 10, 12 + 4 * 10)  # the burst may lie in two buckets
        assert f"{event['dimension']} {event['name']}, 12 attempts failed" in event["detail"]
    own = [entry.event["dimension"] for entry in store.security.read(tenant="t").items if entry.kind == "anomaly"]
    assert own == ["tenant"]
    # The burst continues; this process looks again, then another takes the lease, having seen nothing of it.
    for _ in range(12):
        run(store, exit_code=1)
    move(store, 1)
    other = open_store(settings)
    Janitor(other, settings).round(time.time())
    Alarms(store).round()
    other.redis.close()
    assert len(reported(store)) == 3
    # It ends when it has been quiet for a while; when it is no longer part of the past, another burst is news.
    move(store, QUIET_BUCKETS + 1)
    Alarms(store).round()
    assert store.rates.alarms() == {}
    give_a_past(store)
    move(store, BUCKETS)
    give_a_past(store)
    for _ in range(12):
        run(store, exit_code=1)
    move(store, 1)
    Alarms(store).round()
    assert len(reported(store)) == 6


def test_single_process_detects_a_burst(store: Store) -> None:
    """Buckets are read once: full buckets are kept, and only new buckets are added."""
    give_a_past(store)
    alarms = Alarms(store)
    alarms.round()
    for _ in range(10):
        run(store, blocked=1)
    now = store.rates.bucket()
    assert reported(store) == []
    eventually(lambda: store.rates.bucket() > now, "the bucket is full", BUCKET_SECONDS + 5)
    alarms.round()
    assert {event["what"] for event in reported(store)} == {"security"}


def test_the_first_minutes_are_silent(store: Store) -> None:
    Alarms(store).round()
    for _ in range(30):
        store.security.count("auth_failure", "192.0.2.1")
    move(store, 1)
    Alarms(store).round()
    assert reported(store) == []
    store.redis.decrby(keys.RATES_SINCE, anomaly.LEAST_PAST_WINDOWS * anomaly.MINUTE_BUCKETS + 6)
    Alarms(store).round()
    assert [(event["name"], event["observed"]) for event in reported(store)] == [("api", 30)]


def test_anomaly_detector_can_be_turned_off(store: Store, settings: Settings) -> None:
    give_a_past(store)
    for _ in range(12):
        run(store, exit_code=1)
    move(store, 1)
    Janitor(store, settings.model_copy(update={"anomalies": False})).round(time.time())
    assert reported(store) == []
