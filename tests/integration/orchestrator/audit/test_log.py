"""The audit log in a real Redis: sealing, tampering by a writer to Redis, and trimming."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import metrics
from orchestrator.audit import AuditEntry
from orchestrator.audit.chain import Link, Seal, Signer, Verdict, verify
from orchestrator.audit.log import AuditLog
from orchestrator.identity import Principal
from orchestrator.janitor import sealing
from orchestrator.janitor.sealing import Sealer
from orchestrator.store import Store, keys
from orchestrator.store.security import LogBounds
from tests.harness import eventually

SECRET = b"s" * 32
ADMIN = Principal(id="key:admin", key_id="admin", tenant="default", scopes=frozenset({"admin"}))
DAY = 86400


def opened(store: Store, **bounds: Any) -> AuditLog:
    return AuditLog(store, SECRET, LogBounds(**{"seconds": DAY, "entries": 1000, **bounds}))


@pytest.fixture
def audit(store: Store) -> AuditLog:
    return opened(store)


def write(audit: AuditLog, number: int = 1) -> None:
    for n in range(number):
        audit.append(audit.writer.entry(ADMIN, "key.create", f"api-key/{n}", owner="t"))


def verdict(audit: AuditLog) -> Verdict:
    return verify(audit.base(), audit.seals(), audit.links("0-0"), audit.public_key)


def events(store: Store) -> list[str]:
    return [entry.event["detail"] for entry in store.security.read(tenant=None).items]


def everything(entry: AuditEntry) -> bool:
    return True


def test_entries_are_sealed_once(audit: AuditLog, store: Store) -> None:
    assert audit.seal() is None
    write(audit, 3)
    first = audit.seal()
    assert first is not None
    assert audit.seal() is None
    write(audit)
    assert opened(store).seal() is not None  # another process continues the chain
    write(audit)
    found = verdict(audit)
    assert (found.entries, found.unsealed, found.faults) == (5, 1, ())
    assert [seal.entries for seal in audit.seals()] == [3, 4]
    assert [record.entry.resource for record in audit.read(everything).items][:2] == ["api-key/0", "api-key/1"]
    assert not events(store)


def test_sealer_seals_new_entries_within_a_second_and_at_its_end(audit: AuditLog) -> None:
    sealer = Sealer(audit)
    sealer.start()
    write(audit, 3)
    eventually(lambda: audit.last_seal().entries == 3, "the entries are sealed")
    assert sealing.PAUSE_SECONDS < 1
    write(audit)
    sealer.stop()
    assert audit.last_seal().entries == 4


def test_one_of_two_processes_adds_a_seal(audit: AuditLog, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write(audit)
    other = opened(store)
    read = other.links

    def overtaken(after: str) -> list[Link]:
        audit.seal()
        return read(after)

    monkeypatch.setattr(other, "links", overtaken)
    assert other.seal() is None
    assert len(audit.seals()) == 1
    assert not verdict(audit).faults


def test_removed_and_changed_entries_are_found(audit: AuditLog, store: Store) -> None:
    write(audit, 3)
    audit.seal()
    [first, second, _] = audit.links("0-0")
    store.redis.xdel(keys.AUDIT, second.position)
    assert "changed, removed or inserted" in verdict(audit).faults[0]
    store.redis.delete(keys.AUDIT)
    store.redis.xadd(keys.AUDIT, {"d": first.stored}, id=first.position)
    assert verdict(audit).faults


def test_entry_that_another_client_of_redis_appends_is_reported(audit: AuditLog, store: Store) -> None:
    write(audit)
    [genuine] = audit.links("0-0")
    forged = genuine.stored.replace(b"api-key/0", b"api-key/9")
    store.redis.xadd(keys.AUDIT, {"d": forged})
    audit.seal()
    [fault] = verdict(audit).faults
    assert fault.endswith("was not written by Mayfly.")
    [event] = events(store)
    assert "was not written by Mayfly" in event


def unreadable(good: Seal) -> str:
    return "no seal"


def forged(good: Seal) -> str:
    return Signer(b"o" * 32).sign(good).model_dump_json()


@pytest.mark.parametrize("bad", [unreadable, forged])
def test_invalid_last_seal_is_an_event_and_sealing_continues(
    audit: AuditLog, store: Store, bad: Callable[[Seal], str]
) -> None:
    for _ in range(2):
        write(audit)
        audit.seal()
    first, last = audit.seals()
    store.redis.delete(keys.AUDIT_SEALS)
    store.redis.xadd(keys.AUDIT_SEALS, {"s": first.model_dump_json()}, id=first.position)
    store.redis.xadd(keys.AUDIT_SEALS, {"s": bad(last)}, id=last.position)
    counted = metrics.security_events.labels("queue_tampering")._value.get()
    other = opened(store)  # a process that knew none of the seals
    assert other.seal() is None
    assert other.seal() is None
    [event] = events(store)
    assert f"The seals at {last.position} of the audit log were not made by Mayfly" in event
    assert metrics.security_events.labels("queue_tampering")._value.get() == counted + 1
    write(other)
    made = other.seal()
    assert made is not None
    assert (made.previous, made.entries, made.foreign) == (first.head, 3, (last.position,))
    assert other.seal() is None
    assert f"seal at {last.position} was not written by Mayfly" in verdict(other).faults[-1]
    assert len(events(store)) == 1


def test_lost_end_is_reported(audit: AuditLog, store: Store) -> None:
    write(audit)
    audit.seal()
    store.redis.delete(keys.AUDIT, keys.AUDIT_SEALS)
    audit.seal()
    [event] = events(store)
    assert "has lost its entries" in event
    audit.seal()
    assert len(events(store)) == 1


def test_old_and_surplus_entries_are_removed_up_to_a_seal(audit: AuditLog, store: Store) -> None:
    for _ in range(3):
        write(audit, 2)
        audit.seal()
    write(audit)
    assert audit.trim(time.time()) is None
    few = opened(store, entries=4)
    base = few.trim(time.time())
    assert base is not None
    assert base.entries == 4
    assert len(audit.links("0-0")) == 3
    assert not verdict(audit).faults
    assert opened(store).seal() is not None
    assert verdict(audit)._replace(sealed=None)[1:] == (3, 0, ())  # type: ignore[arg-type]
    everything_old = audit.trim(time.time() + 2 * DAY)
    assert everything_old is not None
    assert not audit.links("0-0")
    write(audit)
    assert opened(store).seal() is not None
    assert not verdict(audit).faults
