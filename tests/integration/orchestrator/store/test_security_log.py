"""The security logs on a real Redis: nothing lost or twice, bounded, and one step with the execution's list."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from orchestrator.errors import StoreUnavailable
from orchestrator.models import SECURITY_KINDS
from orchestrator.models.stream import START
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from orchestrator.store.accounting import LOG_BYTES
from orchestrator.store.security import MAX_EVENT_BYTES, LogPage, bounded, encoded, milestone
from orchestrator.store.steps import SECURITY
from tests.builders.events import security_event
from tests.builders.records import claimed, submit
from tests.harness import RedisServer

EVENT = {"kind": "oom_killed", "detail": "Memory passed 96 MiB.", "limit": 96 * 2**20, "attribution": "cgroup"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"security_events": 1000})


def counted(kind: str) -> float:
    return REGISTRY.get_sample_value("mayfly_security_events_total", {"kind": kind}) or 0.0


def append(store: Store, id: str, attempt: int, **more: Any) -> bool:
    event = security_event("oom_killed", "Memory passed 96 MiB.", "cgroup", limit=96 * 2**20, **more)
    return store.output.append(id, attempt, [("security", event, SECURITY)])


def details(page: LogPage) -> list[str]:
    return [entry.event["detail"] for entry in page.items]


def test_execution_event_is_identical_in_every_log(store: Store) -> None:
    id = submit(store, tenant="a")
    claim = claimed(store, id, "host-1")
    before = counted("oom_killed")
    assert append(store, id, claim.attempt)
    entry = next(entry for entry in store.output.entries(id) if entry.type == "security")
    assert (json.loads(entry.data), entry.source) == (EVENT, "worker:host-1")
    (own,), (all_,) = store.security.read(tenant="a").items, store.security.read(tenant=None).items
    assert own.id == all_.id == f"{id}:{entry.id}"
    for found in (own, all_):
        assert (found.event, found.source, found.tenant) == (EVENT, "worker:host-1", "a")
        assert (found.execution, found.environment) == (id, "python")
    assert store.security.read(tenant="b").items == []
    assert store.records.get(id, "a").security_events == 1
    assert counted("oom_killed") == before + 1


def test_a_stale_attempts_event_is_nowhere(store: Store) -> None:
    id = submit(store)
    claim = claimed(store, id)
    before = counted("oom_killed")
    assert not append(store, id, claim.attempt + 1)
    assert store.security.read(tenant=None).items == store.security.read(tenant="t").items == []
    assert store.records.get(id, "t").security_events == 0
    assert counted("oom_killed") == before
    assert append(store, id, claim.attempt)
    assert len(store.security.read(tenant=None).items) == 1  # the control


def test_output_is_not_written_to_security_logs(store: Store) -> None:
    id = submit(store)
    claim = claimed(store, id)
    assert store.output.append(id, claim.attempt, [("stdout", b'{"kind": "oom_killed"}', False)])
    assert not store.redis.exists(keys.SECURITY, keys.tenant_security("t"))


def test_an_event_without_an_execution(store: Store) -> None:
    store.security.add(
        security_event("weak_container", "No.", findings=[{"field": "x"}]), tenant=None, source="worker:w"
    )
    store.security.add(security_event("anomaly", "Much.", count=3), tenant="a", source="janitor", environment="python")
    weak, anomaly = store.security.read(tenant=None).items
    assert (weak.kind, weak.tenant, weak.event["findings"]) == ("weak_container", None, [{"field": "x"}])
    assert [entry.id for entry in store.security.read(tenant="a").items] == [anomaly.id]
    assert (anomaly.environment, anomaly.event["count"], anomaly.execution) == ("python", 3, None)
    assert store.security.read(tenant="").items == []


def test_events_are_filtered_by_kind_and_time(store: Store) -> None:
    for number in range(5):
        store.security.add(security_event("timeout", f"t{number}"), tenant="a", source="api")
        store.security.add(security_event("oom_killed", f"o{number}"), tenant="a", source="api")
    middle = int(store.security.read(tenant="a", count=5).position.partition("-")[0]) / 1000
    assert details(store.security.read(tenant="a", kind="timeout")) == [f"t{number}" for number in range(5)]
    assert details(store.security.read(tenant="a", kind="timeout", count=2)) == ["t0", "t1"]
    assert store.security.read(tenant="a", kind="anomaly").items == []
    later = store.security.read(tenant="a", since=middle).items
    assert later
    assert all(int(entry.position.partition("-")[0]) >= middle * 1000 for entry in later)
    assert later[-1].event["detail"] == "o4"
    assert store.security.read(tenant="a", since=time.time() + 60).items == []


def test_pages_lose_and_repeat_nothing_during_writes(store: Store, settings: Settings) -> None:
    def write(number: int) -> None:
        mine = open_store(settings)
        for count in range(100):
            mine.security.add(security_event("timeout", f"{number}:{count}"), tenant=f"t{number % 2}", source="api")
        mine.redis.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    seen: dict[str | None, list[str]] = {None: [], "t0": [], "t1": []}
    positions = dict.fromkeys(seen, START)
    deadline = time.monotonic() + 120
    while True:
        over = not any(writer.is_alive() for writer in writers)
        read = False
        for tenant, printed in seen.items():
            page = store.security.read(tenant=tenant, after=positions[tenant], count=7)
            positions[tenant] = page.position
            printed += details(page)
            read = read or bool(page.items)
        if over and not read:
            break
        assert time.monotonic() < deadline
    every = {f"{number}:{count}" for number in range(4) for count in range(100)}
    assert len(seen[None]) == 400
    assert set(seen[None]) == every
    for tenant, numbers in (("t0", "02"), ("t1", "13")):
        printed = seen[tenant]
        assert len(printed) == 200
        assert set(printed) == {detail for detail in every if detail[0] in numbers}


def test_a_page_looks_at_a_bounded_number_of_entries(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.security.PAGE", 10)
    monkeypatch.setattr("orchestrator.store.security.SCANNED_PAGES", 2)
    for number in range(30):
        store.security.add(security_event("timeout", str(number)), tenant=None, source="api")
    store.security.add(security_event("anomaly", "last"), tenant=None, source="api")
    first = store.security.read(tenant=None, kind="anomaly")
    assert (first.items, first.more) == ([], True)
    second = store.security.read(tenant=None, kind="anomaly", after=first.position)
    assert (details(second), second.more) == (["last"], False)


def test_the_logs_are_bounded_in_length(store: Store) -> None:
    for number in range(1500):
        store.security.add(security_event("timeout", str(number)), tenant="a", source="api")
    for tenant, name in ((None, keys.SECURITY), ("a", keys.tenant_security("a"))):
        assert 1000 <= store.redis.xlen(name) < 1150  # Redis drops whole nodes
        assert 0 < store.redis.ttl(name) <= 30 * 86400
        page = store.security.read(tenant=tenant)
        while page.more:
            page = store.security.read(tenant=tenant, after=page.position)
        assert page.items[-1].event["detail"] == "1499"


def test_the_logs_are_bounded_in_bytes(settings: Settings) -> None:
    """A tenant chooses the length of the names in its events."""
    store = open_store(settings.model_copy(update={"security_events": 10_000}))
    for number in range(3000):
        more: Any = {f"f{field}": "x" * 900 for field in range(16)}
        store.security.add(security_event("timeout", str(number), **more), tenant="a", source="api")
    for name in (keys.SECURITY, keys.tenant_security("a")):
        assert LOG_BYTES / 4 < store.redis.memory_usage(name, samples=0) < 1.1 * LOG_BYTES
        ((_, newest),) = store.redis.xrevrange(name, count=1)
        assert json.loads(newest[b"d"])["detail"] == "2999"
    store.redis.close()


def test_small_events_are_kept_in_any_number(settings: Settings, store: Store) -> None:
    store.security.add(security_event("timeout", "first"), tenant=None, source="api")
    store.redis.set(f"{keys.SECURITY}:bytes", 2 * LOG_BYTES)  # as after years of them
    store.security.add(security_event("timeout", "second"), tenant=None, source="api")
    assert details(store.security.read(tenant=None)) == ["first", "second"]
    assert int(store.redis.get(f"{keys.SECURITY}:bytes")) < 10_000


def test_events_past_their_age_are_neither_shown_nor_kept(settings: Settings) -> None:
    store = open_store(settings.model_copy(update={"security_seconds": 100}))
    old = int((time.time() - 200) * 1000)
    for number in range(300):
        row = {"i": f"old{number}", "t": "", "d": encoded(EVENT), "s": "api"}
        store.redis.xadd(keys.SECURITY, row, id=f"{old}-{number}")
    assert store.security.read(tenant=None).items == []
    store.security.add(security_event("timeout", "new"), tenant=None, source="api")
    assert details(store.security.read(tenant=None)) == ["new"]
    assert store.redis.xlen(keys.SECURITY) < 150
    store.redis.close()


def test_huge_event_is_cut_and_invalid_event_repaired(store: Store) -> None:
    text = "\U0001f98b" * 100_000
    store.security.add(
        security_event("anomaly", text, path=text, why={"a": [text] * 500, "b": {"c": {}}}), tenant=None, source="api"
    )
    store.security.add(
        security_event("anomaly", "half \ud800", number=float("nan"), bytes=b"\xff"), tenant=None, source="api"
    )
    big, broken = (entry.event for entry in store.security.read(tenant=None).items)
    assert len(encoded(big)) <= MAX_EVENT_BYTES
    assert big["shortened"]
    assert big["path"].startswith("\U0001f98b")
    assert broken == {"kind": "anomaly", "detail": "half \\ud800", "number": "nan", "bytes": "b'\\xff'"}
    assert bounded(EVENT) == EVENT  # the control


def test_unauthenticated_events_are_counted_and_bounded(store: Store) -> None:
    counts = [store.security.count("auth_failure", "10.0.0.1") for _ in range(120)]
    assert counts[-1] == ("10.0.0.1", 120)
    assert [count for _, count in counts if milestone(count)] == [1, 10, 100]
    for number in range(200):
        store.security.count("auth_failure", f"10.1.0.{number}")
    subject, count = store.security.count("auth_failure", "10.2.0.1")
    assert (subject, count) == ("", 102)
    assert store.security.count("auth_failure", "10.0.0.1") == ("10.0.0.1", 121)
    assert 0 < store.redis.ttl(keys.SECURITY_COUNTS + "auth_failure") <= 60


def test_event_that_cannot_be_stored_is_logged(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    store = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    server.stop()
    before = counted("anomaly")
    with pytest.raises(StoreUnavailable):
        store.security.add(security_event("anomaly", "lost"), tenant=None, source="api")
    assert counted("anomaly") == before
    store.redis.close()


def test_every_kind_is_a_metrics_label_and_a_type(store: Store) -> None:
    for kind in SECURITY_KINDS:
        before = counted(kind)
        store.security.add(security_event(kind, "x"), tenant=None, source="api")
        assert counted(kind) == before + 1
    assert [entry.kind for entry in store.security.read(tenant=None).items] == list(SECURITY_KINDS)
