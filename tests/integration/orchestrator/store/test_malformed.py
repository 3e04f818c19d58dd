"""Malformed data in Redis is skipped and counted, and ends no thread."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client import REGISTRY

from orchestrator.errors import NotFound
from orchestrator.janitor.janitor import KINDS, Janitor
from orchestrator.models.fleet import Switch
from orchestrator.queries import events
from orchestrator.settings import Settings
from orchestrator.states import Reason
from orchestrator.store import Store, keys
from orchestrator.store.malformed import execution_id
from tests.builders.counted import counted
from tests.builders.events import security_event
from tests.builders.processes.workers import heartbeat
from tests.builders.records import LATER, claimed, now, result, submit, take
from tests.harness import eventually

STATUSES: dict[str, Any] = {
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe",
    "no object": b"[1]",
    "null": b"null",
    "a number": b"7",
    "deep": b"[" * 100_000,
    "wrong types": json.dumps({"id": "bad", "slots": "many"}),
    "unknown fields": json.dumps({"id": "bad", "extra": 1}),
    "infinite": b'{"id": "bad", "slots": 1e999}',
}


def malformed(what: str) -> float:
    return REGISTRY.get_sample_value("mayfly_store_malformed_total", {"what": what}) or 0.0


@pytest.mark.parametrize("status", STATUSES.values(), ids=STATUSES)
def test_malformed_worker_status_hides_no_other_worker(store: Store, settings: Settings, status: bytes) -> None:
    id = submit(store)
    store.records.start(claimed(store, id, "bad"), now())
    heartbeat(store, "bad", id)
    heartbeat(store, "good")
    store.redis.hset(keys.worker("bad"), "status", status)
    before = malformed("worker status")
    assert [worker.id for worker in store.fleet.alive()] == ["good"]
    assert malformed("worker status") == before + 1
    assert store.fleet.leased() == {"bad", "good"}  # its containers must not be destroyed
    Janitor(store, settings).round(now() + LATER)
    assert store.records.get(id, "t").state == "running"  # nor take it away
    heartbeat(store, "bad", id)
    assert {worker.id for worker in store.fleet.alive()} == {"bad", "good"}


def test_heartbeat_replaces_worker_key_of_another_type(store: Store) -> None:
    store.redis.set(keys.worker("w"), "x", ex=100)
    store.redis.set(keys.WORKERS, "x")
    heartbeat(store, "w")
    assert [worker.id for worker in store.fleet.alive()] == ["w"]
    store.redis.sadd(keys.WORKERS, b"\xff", "")
    store.redis.hset(keys.worker("").encode() + b"\xff", "status", b"\xff")
    store.redis.pexpire(keys.worker("").encode() + b"\xff", 10_000)
    assert [worker.id for worker in store.fleet.alive()] == ["w"]


def poison_line(store: Store) -> None:
    for isolation in ("standard", "hardened"):
        store.redis.zadd(keys.line(isolation), {b"\xff\xfe": 0, b"../x": 0, b"": 0, b"no:name": 0})


def poison_queue(store: Store) -> None:
    store.redis.lpush("rq:queue:t:default", b"\xff\xfe", b"", b"x" * 100_000, b"../../x", "0" * 32)


def poison_records(store: Store) -> None:
    strange: list[bytes] = [b"\xff\xfe", b"short", b"A" * 32]
    for id in strange:
        store.redis.hset(keys.execution("").encode() + id, mapping={"state": "queued", "attempt": 0, "tenant": "t"})
    for number, attempt in ((b"1", "many"), (b"2", "-1"), (b"3", "")):
        strange.append(number * 32)
        record = keys.execution("").encode() + strange[-1]
        store.redis.hset(record, mapping={"state": "queued", "attempt": attempt, "tenant": "t"})
    store.redis.set(keys.execution("4" * 32), "no hash")
    store.redis.lpush("rq:queue:t:default", *strange, "4" * 32)


def poison_queue_type(store: Store) -> None:
    store.redis.set("rq:queue:t:high", "no list")


@pytest.mark.parametrize("poison", [poison_line, poison_queue, poison_records, poison_queue_type])
def test_a_poisoned_queue_is_passed_over(store: Store, poison: Callable[[Store], None]) -> None:
    id = submit(store)
    poison(store)
    claim = take(store)
    assert claim is not None
    assert claim.id == id
    assert take(store) is None
    store.records.commit(claim, result("failed"))


WRONG = [
    (key, wrong) for key, right in KINDS.items() for wrong in (b"string", b"list", b"zset", b"hash") if wrong != right
]


def put(store: Store, key: str, kind: bytes) -> None:
    """Have a key hold something of that type that no part of Mayfly can read."""
    store.redis.delete(key)
    if kind == b"string":
        store.redis.set(key, b"\xff\xfe")
    elif kind == b"list":
        store.redis.rpush(key, b"\xff\xfe")
    elif kind == b"hash":
        store.redis.hset(key, b"\xff\xfe", b"\xff")
    else:
        store.redis.zadd(key, {b"\xff\xfe": 1})


def lives_and_goes(store: Store) -> None:
    """An execution is accepted, claimed, ended and, by a janitor that runs, deleted."""
    id = submit(store)
    claim = claimed(store, id)
    store.records.start(claim, now())
    store.records.commit(claim, result())
    store.redis.zadd(keys.EXPIRY, {id: 1})
    eventually(lambda: not store.records.exist([id]), "the execution is deleted")


@pytest.mark.parametrize(("key", "kind"), [*WRONG, *((key, b"zset") for key in KINDS if KINDS[key] == b"zset")])
def test_a_key_of_another_type_is_mended(store: Store, settings: Settings, key: str, kind: bytes) -> None:
    janitor = Janitor(store, settings.model_copy(update={"janitor_seconds": 0.05}))
    lives = (KINDS[key], b"none")
    janitor.start()
    try:
        put(store, key, kind)
        eventually(lambda: store.redis.type(key) in lives, "the key has its type again")
        lives_and_goes(store)
    finally:
        janitor.stop()
    if kind != KINDS[key]:
        assert any(key in entry.event["detail"] for entry in store.security.read(tenant=None).items)


def test_mending_removes_no_value_that_was_written_meanwhile(store: Store, settings: Settings) -> None:
    """A switch replaces a key of another type, too, at any moment of the janitor's round."""
    janitor, off = Janitor(store, settings), Switch(feature="tools", enabled=False)
    with ThreadPoolExecutor(1) as operator:
        for _ in range(300):
            put(store, keys.SWITCHES, b"string")
            switched = operator.submit(store.switches.put, off)
            janitor._kinds(now())
            switched.result(60)
            assert store.redis.hkeys(keys.SWITCHES) == [b"tools"]


@pytest.mark.parametrize("kind", [b"string", b"list", b"hash"])
def test_the_janitors_own_key_is_mended(store: Store, settings: Settings, kind: bytes) -> None:
    put(store, keys.JANITOR, kind)
    janitor = Janitor(store, settings.model_copy(update={"janitor_seconds": 0.05}))
    janitor.start()
    try:
        lives_and_goes(store)
    finally:
        janitor.stop()


def test_failing_janitor_task_stops_no_other_task(store: Store, settings: Settings) -> None:
    id = submit(store)
    store.records.commit(claimed(store, id), result("failed"))
    store.redis.zadd(keys.EXPIRY, {id: 1})
    janitor = Janitor(store, settings)
    bucket = store.rates.bucket()
    store.redis.delete(f"{keys.RATES}{bucket}")
    for number in range(bucket - 5, bucket + 1):
        store.redis.set(f"{keys.RATES}{number}", "no hash")  # which the alarms read
    failures = counted("mayfly_janitor_failures_total")
    for _ in range(2):
        janitor.round(store.now())
    assert not store.records.exist([id])
    assert counted("mayfly_janitor_failures_total") > failures


DAMAGE: dict[str, dict[str, Any]] = {
    "view": {"view": b"\xff"},
    "a view of another kind": {"view": b"[]"},
    "state": {"state": "dancing"},
    "times": {"created_at": "1e400"},
    "attempt": {"attempt": "first"},
    "result": {"state": "succeeded", "result": b"nonsense"},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_record_hides_no_other_record(store: Store, damage: dict[str, Any]) -> None:
    damaged, whole = submit(store), submit(store)
    store.redis.hset(keys.execution(damaged), mapping=damage)
    before = malformed("record")
    assert [execution.id for execution in store.records.get_many([damaged, whole])] == [whole]
    assert malformed("record") == before + 1


def test_janitor_works_on_beside_damaged_records(store: Store, settings: Settings) -> None:
    ids = [submit(store) for _ in range(7)]
    for id, damage in zip(ids, DAMAGE.values(), strict=False):
        store.redis.hset(keys.execution(id), mapping=damage)
    whole = ids[-1]
    for name in (keys.QUEUED, keys.ACTIVE, keys.RETRYING):
        store.redis.zadd(name, dict.fromkeys(ids[:-1], 1))
    store.redis.zadd(keys.QUEUED, {whole: 1})
    Janitor(store, settings.model_copy(update={"queue_seconds": 1.0})).round(now())
    assert store.records.get(whole, "t").reason == "queue_expired"


def test_forged_expiry_deletes_no_running_execution(store: Store, settings: Settings) -> None:
    id = submit(store)
    claim = claimed(store, id)
    store.records.start(claim, now())
    store.redis.zadd(keys.EXPIRY, {id: 1})
    Janitor(store, settings).round(now())
    assert store.records.get(id, "t").state == "running"
    assert store.redis.zscore(keys.EXPIRY, id) is None
    store.records.commit(claim, result())
    assert store.redis.zscore(keys.EXPIRY, id) is not None


FORGED_EVENTS: list[dict[str | bytes, bytes | str]] = [
    {"x": "y"},
    {"i": "1", "d": b"{", "s": "api", "t": ""},
    {"i": "1", "d": b"[]", "s": "api", "t": ""},
    {"i": b"\xff", "d": b'{"kind": "anomaly"}', "s": "api", "t": ""},
    {"i": "x:y", "d": b'{"kind": "anomaly", "detail": ""}', "s": "api", "t": ""},
    {"i": "1", "d": b'{"kind": ["x"]}', "s": "api", "t": ""},
    {"i": "1", "d": b'{"kind": "nothing"}', "s": "api", "t": ""},
]


def test_forged_security_events_hide_no_true_event(store: Store) -> None:
    for forged in FORGED_EVENTS:
        store.redis.xadd(keys.SECURITY, forged)
    store.security.add(security_event("anomaly", "a real one"), tenant=None, source="api")
    for forged in FORGED_EVENTS:
        store.redis.xadd(keys.SECURITY, forged)
    before = malformed("security log")
    page = store.security.read(tenant=None)
    assert [events.of_log(entry).data["detail"] for entry in page.items] == ["a real one"]
    assert not page.more
    assert malformed("security log") == before + 2 * len(FORGED_EVENTS)


def test_a_forged_reason_to_cancel_is_none(store: Store) -> None:
    id = submit(store)
    claimed(store, id)
    for reason in (b"\xff", b"timed_out", b""):
        store.redis.hset(keys.execution(id), "cancel_reason", reason)
        assert store.records.cancelled(id).reason is Reason.CANCELLED_BY_USER


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"x" * 10**6, b"0" * 31, b"0" * 32 + b"\n", None, 7, "0" * 32])
def test_message_other_than_an_id_is_counted_as_malformed(data: object) -> None:
    before = malformed("a test's")
    assert execution_id(data, "a test's") is None
    assert malformed("a test's") == before + 1
    assert execution_id(b"0" * 32, "a test's") == "0" * 32


def test_a_forged_place_of_output_leads_nowhere(store: Store) -> None:
    id = submit(store)
    claim = claimed(store, id)
    store.records.start(claim, now())
    for span in (b"0 1000000000000", b"-5 10", b"0 -1", b"99999999999999999999 1"):
        store.redis.xadd(keys.stream(id), {"t": "stdout", "f": span, "a": 1})
        with pytest.raises(NotFound):
            store.output.bytes_of(id, 1, "stdout")
        entries = store.output.filled(id, store.output.read(id))
        assert entries[-1].data == b""
    store.redis.xadd(keys.stream(id), {"t": "../../x", "f": b"0 1", "a": 1})
    with pytest.raises(ValueError, match="not a name"):
        store.output.filled(id, store.output.read(id))


def test_record_without_its_queue_keeps_no_other_execution_from_the_queue(store: Store, settings: Settings) -> None:
    strange, lost = submit(store), submit(store)
    queue = store.redis.hget(keys.execution(lost), "queue")
    store.redis.hdel(keys.execution(strange), "queue")
    assert store.redis.lrem(queue, 0, lost) == 1
    Janitor(store, settings).round(now() + LATER)
    assert store.redis.lpos(queue, lost) is not None
