"""Idle slots of a worker that leaves, on a real Redis."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchestrator import queue
from orchestrator.models import ISOLATIONS
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from orchestrator.store.connection import connect_plain
from tests.builders.processes.slots import Handler, wait_for_idle_slots, working
from tests.builders.records import submit
from tests.harness import RedisServer, eventually
from worker import slots
from worker.slots import SlotWorker

BELL = keys.leaving_bell("w")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path)
    made.start()
    yield made
    made.stop(signal.SIGKILL)


@pytest.fixture
def store(server: RedisServer, tmp_path: Path) -> Iterator[Store]:
    made = open_store(Settings(state_dir=tmp_path, redis_url=server.url, redis_timeout_seconds=1))
    yield made
    made.redis.close()


@pytest.fixture
def handler(store: Store) -> Handler:
    return Handler(store)


@pytest.fixture
def worker(
    monkeypatch: pytest.MonkeyPatch, store: Store, handler: Handler, server: RedisServer
) -> Iterator[SlotWorker]:
    """A worker with two slots."""
    monkeypatch.setattr(slots, "POP_SECONDS", 1)
    connection = connect_plain(server.url, 2)
    yield SlotWorker(store, connection, "w", 2, handler, offered=lambda: ISOLATIONS, paused=bool)
    connection.close()


@pytest.fixture
def patient(
    monkeypatch: pytest.MonkeyPatch, store: Store, handler: Handler, server: RedisServer
) -> Iterator[SlotWorker]:
    """A worker whose two slots block in Redis for longer than a test lasts."""
    monkeypatch.setattr(slots, "POP_SECONDS", 600)
    connection = connect_plain(server.url, 900)
    yield SlotWorker(store, connection, "w", 2, handler, offered=lambda: ISOLATIONS, paused=bool)
    connection.close()


def test_leaving_worker_wakes_its_idle_slots(patient: SlotWorker, store: Store) -> None:
    with working(patient):
        wait_for_idle_slots(store, 2)
    assert not store.redis.exists(BELL)


def test_late_beat_does_not_register_a_worker_again_that_has_left(
    patient: SlotWorker, handler: Handler, store: Store
) -> None:
    handler.may_end.set()
    submit(store)
    with working(patient):
        wait_for_idle_slots(store, 2)
        patient.beat()
        assert entries(store)
    submit(store)  # whose queue the worker would serve
    patient.beat()
    assert not entries(store)


def entries(store: Store) -> set[bytes]:
    """Where RQ's tools find the worker."""
    return {key for key in store.redis.keys("rq:workers*") if b"rq:worker:w" in store.redis.smembers(key)}


def test_idle_slots_are_woken_by_their_own_worker_only(
    patient: SlotWorker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = threading.Event()
    with working(patient):
        wait_for_idle_slots(store, 2)
        with monkeypatch.context() as patches:
            patches.setattr(queue.Deliveries, "wake", lambda deliveries, number: called.set())
            patient.leave()
            assert called.wait(60)
        queue.Deliveries(store.redis, patient.connection, "other").wake(2)
        wait_for_idle_slots(store, 2)
        queue.Deliveries(store.redis, patient.connection, "w").wake(1)
        wait_for_idle_slots(store, 1)
        queue.Deliveries(store.redis, patient.connection, "w").wake(1)


def test_tokens_for_busy_slots_expire(worker: SlotWorker, handler: Handler, store: Store) -> None:
    with working(worker):
        submit(store)
        submit(store)
        eventually(lambda: worker.busy == 2, "both slots are busy")
        worker.leave()
        eventually(lambda: store.redis.llen(BELL) == 2, "there is a token for each slot")
        assert 0 < store.redis.ttl(BELL) <= queue.BEGUN_SECONDS
        handler.may_end.set()


@pytest.mark.parametrize("trouble", ["killed", "stopped", "full"])
def test_worker_leaves_without_an_answer_of_redis(
    trouble: str, worker: SlotWorker, store: Store, server: RedisServer
) -> None:
    assert server.process is not None
    with capture_logs() as logs, working(worker):
        wait_for_idle_slots(store, 2)
        if trouble == "full":
            store.redis.config_set("maxmemory", 1)
        else:
            server.process.popen.send_signal(signal.SIGKILL if trouble == "killed" else signal.SIGSTOP)
    assert [entry["event"] for entry in logs].count("slots.not_woken") == 1


def test_beat_repairs_a_malformed_leaving_bell(worker: SlotWorker, handler: Handler, store: Store) -> None:
    handler.may_end.set()
    with working(worker):
        wait_for_idle_slots(store, 2)
        store.redis.set(BELL, b"no list")
        id = submit(store)
        eventually(lambda: store.records.get(id, None).state == "succeeded", "the execution has run")
        eventually(lambda: not worker.busy, "the slots are free")
        worker.beat()
        assert not store.redis.exists(BELL)
        wait_for_idle_slots(store, 2)
