"""Executions with features of a later level on a real Redis: workers of that level alone claim them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from orchestrator import features, queue
from orchestrator.features import Feature, lanes
from orchestrator.models import ISOLATIONS, Execution
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from tests.builders.records import submit
from tests.harness import RedisServer

OLDER, LATER = lanes(ISOLATIONS, 1), lanes(ISOLATIONS, 2)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """In it, executions in the environment `later` use a feature of the second level."""
    feature = Feature(2, lambda specification: specification.environment == "later")
    monkeypatch.setitem(features.FEATURES, "Specification.environment", feature)
    monkeypatch.setattr(features, "lanes", partial(lanes, level=2))
    server = RedisServer(tmp_path)
    server.start()
    made = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    try:
        yield made
    finally:
        made.redis.close()
        server.stop()


def taken(store: Store, served: list[str]) -> str | None:
    found = queue.Deliveries(store.redis, store.redis, "w").take(served)
    return None if found is None else found.claim.id


def execution(store: Store, id: str) -> Execution:
    return store.records.get(id, None)


def test_execution_of_a_later_level_waits_for_a_worker_of_that_level(store: Store) -> None:
    later, plain = submit(store, environment="later"), submit(store)
    assert queue.depths(store)["default"] == 2
    assert [taken(store, OLDER) for _ in range(2)] == [plain, None]
    assert execution(store, later).state == "queued"
    assert taken(store, LATER) == later
    assert execution(store, later).attempt == 1


def test_later_worker_takes_both_levels_in_order_of_age_and_priority(store: Store) -> None:
    ids = [submit(store, environment=environment) for environment in ("later", "python", "later", "python")]
    first = submit(store, environment="later", priority="high")
    assert [taken(store, LATER) for _ in range(6)] == [first, *ids, None]


def test_bell_of_the_lane_rings_alone(store: Store) -> None:
    submit(store, environment="later", isolation="hardened")
    rung = [lane for lane in LATER if store.redis.llen(keys.bell(lane))]
    assert rung == ["hardened-2"]
    assert queue.Deliveries(store.redis, store.redis, "w").await_bell(LATER, 1) == keys.bell("hardened-2")


def test_requeued_execution_returns_to_its_lane(store: Store) -> None:
    """Its queue and its lane stand in its record, where janitors of older versions find them, too."""
    later = submit(store, environment="later")
    assert taken(store, LATER) == later
    assert store.records.requeue(later, 1)
    assert queue.put_back(store, later) == 1
    assert taken(store, OLDER) is None
    assert taken(store, LATER) == later
    assert execution(store, later).attempt == 2


def test_cancelled_execution_leaves_its_lane(store: Store) -> None:
    first, second = (submit(store, environment="later") for _ in range(2))
    assert [queue.ahead(store, execution(store, id)) for id in (first, second)] == [0, 1]
    queue.withdraw(store, execution(store, first))
    assert queue.ahead(store, execution(store, first)) is None
    assert queue.ahead(store, execution(store, second)) == 0
