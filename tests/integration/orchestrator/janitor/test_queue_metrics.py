"""The age of the oldest execution that waits for a worker, as the janitor exports it."""

from __future__ import annotations

from prometheus_client import REGISTRY

from orchestrator import queue
from orchestrator.janitor.janitor import Janitor
from orchestrator.models.tenants.quotas import KeyQuotas
from orchestrator.settings import Settings
from orchestrator.store import Store, keys
from tests.builders.counted import counted
from tests.builders.records import submit, take
from tests.harness import eventually

AGE, DEPTH = "mayfly_queue_oldest_seconds", "mayfly_queue_depth"
LABELS = {"priority": "default"}


def queue_at(store: Store, id: str, time: float) -> None:
    """Make an execution one that was queued at that time."""
    store.redis.zadd(keys.QUEUED, {id: time})


def test_age_is_that_of_the_oldest_execution_on_a_queue(store: Store) -> None:
    assert queue.oldest_seconds(store, store.now()) == 0
    ids = [submit(store, tenant=tenant, priority=priority) for tenant, priority in (("a", "low"), ("b", "high"))]
    at = float(int(store.now()))
    queue_at(store, ids[0], at - 500)
    queue_at(store, ids[1], at - 100)
    assert queue.oldest_seconds(store, at) == 500
    assert [take(store) is not None for _ in ids] == [True, True]
    assert queue.oldest_seconds(store, store.now()) == 0, "executions that run do not wait"


def test_held_execution_does_not_count_as_waiting(store: Store) -> None:
    """Another worker would not help it: its API key's quota is used up."""
    store.quotas.put_key("k", KeyQuotas(running=1))
    submit(store, key="k")
    queue_at(store, submit(store, key="k"), store.now() - 500)
    assert [take(store) is not None for _ in range(2)] == [True, False]
    assert store.redis.scard(keys.HOLDING) == 1
    assert store.records.counts()["queued"] == 1
    assert queue.oldest_seconds(store, store.now()) == 0


def test_process_without_the_lease_exports_no_waiting_executions(store: Store, settings: Settings) -> None:
    """An earlier janitor would export its last round's values forever."""
    queue_at(store, submit(store), store.now() - 500)
    janitor = Janitor(store, settings.model_copy(update={"janitor_seconds": 0.05}))
    janitor.start()
    try:
        eventually(lambda: counted(AGE) > 400, "the janitor exports the age")
        assert counted(DEPTH, **LABELS) == 1
        store.redis.set(keys.JANITOR, "another process", ex=3600)
        eventually(lambda: counted(AGE) == 0, "the process without the lease exports no age")
        eventually(lambda: REGISTRY.get_sample_value(DEPTH, LABELS) is None, "this process exports no depth")
    finally:
        janitor.stop()
        store.redis.delete(keys.JANITOR)
