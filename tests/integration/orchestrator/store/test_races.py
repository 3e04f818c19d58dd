"""Deletions, cancellations, reads and ends of the same executions at once, through a real API and a real Redis."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orchestrator import queue
from orchestrator.errors import StaleAttempt
from orchestrator.models import ISOLATIONS, Artifact
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from orchestrator.store.executions.records import Claim
from tests.builders.records import result
from tests.harness import Stack, eventually
from worker.attempt.output import INLINE_BYTES, OutputSink

EXECUTIONS = 80
OUT = b"0123456789abcdef" * (2 * INLINE_BYTES // 16)  # half of it lies in a file
ARTIFACT = b"an artifact" * 5000
EXPECTED = {200, 202, 204, 404, 409}
TERMINAL = ("succeeded", "cancelled")


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"lease_seconds": 3600}  # these workers send no heartbeats, and run some for long


@pytest.fixture
def store(api: Stack) -> Iterator[Store]:
    """The store of the API under test."""
    made = open_store(Settings(state_dir=api.directory / "state", redis_url=api.redis.url))
    yield made
    made.redis.close()


def run(store: Store, claim: Claim, delete: Callable[[str], None]) -> None:
    """Run an execution as a worker does, without a container; meanwhile it is to be deleted."""
    delete(claim.id)
    sink = OutputSink(store, claim, 10**9)
    writer = store.blobs.artifact_writer(claim.id, claim.attempt)
    writer.write(ARTIFACT)
    sha256, size = writer.commit()
    writer.close()
    artifact = Artifact(path="a.bin", size=size, media_type="application/octet-stream", sha256=sha256[7:])
    sink.begin()
    delete(claim.id)
    for start in range(0, len(OUT), len(OUT) // 4):
        sink.write("stdout", OUT[start : start + len(OUT) // 4])
        sink.flush()
    sink.finish()
    if store.records.cancel_requested([claim.id]):
        store.records.end(claim.id, store.records.cancelled(claim.id), "It was cancelled.", claim.attempt)
    else:
        sink.commit(result().model_copy(update={"stdout_bytes": len(OUT), "artifacts": (artifact,)}))


def work(store: Store, name: str, over: threading.Event, delete: Callable[[str], None]) -> None:
    deliveries, done = queue.Deliveries(store.redis, store.redis, name), None
    while not over.is_set():
        done = deliveries.take(ISOLATIONS, done)
        if done is None:
            over.wait(0.002)
            continue
        with suppress(StaleAttempt):
            run(store, done.claim, delete)


class Client:
    """One of several concurrent clients of an execution, and the answers it got."""

    def __init__(self, api: Stack, statuses: Counter[tuple[str, int]]) -> None:
        self._api, self._statuses, self._lock = api, statuses, threading.Lock()
        self._random = random.Random()

    def ask(self, method: str, id: str, rest: str = "") -> tuple[int, bytes]:
        answer = self._api.client.request(method, f"/api/v1/executions/{id}{rest}")
        with self._lock:
            self._statuses[f"{method} {rest}", answer.status_code] += 1
        assert answer.status_code in EXPECTED, (method, rest, answer.status_code, answer.text)
        return answer.status_code, answer.content

    def delete(self, id: str) -> None:
        def gone() -> bool:
            return self.ask("DELETE", id)[0] in (204, 404)

        eventually(gone, "the execution can be deleted")

    def delete_active(self, id: str) -> None:
        self.ask("DELETE", id, "?active")

    def cancel(self, id: str) -> None:
        for _ in range(self._random.randrange(4)):
            self.ask("POST", id, "/cancel")

    def read(self, id: str) -> None:
        """Read ended executions: a record is complete or gone, and stays gone."""
        gone = False
        while not gone:
            status, body = self.ask("GET", id)
            assert status in (200, 404)
            if status == 404:
                return
            whole = b'"state":"succeeded"' in body
            if whole:
                assert OUT in body
            for rest, expected in (("/stdout", OUT), ("/artifacts/a.bin", ARTIFACT)):
                status, body = self.ask("GET", id, rest)
                if status == 200 and whole:
                    assert hashlib.sha256(body).digest() == hashlib.sha256(expected).digest(), (rest, len(body))
                gone = gone or (status == 404 and whole)
            status, body = self.ask("GET", id, "/events")
            if status == 200 and whole:
                assert b"dev.mayfly.execution.succeeded" in body
            gone = gone or status == 404
        assert self.ask("GET", id)[0] == 404

    def follow(self, id: str) -> None:
        with self._api.client.stream("GET", f"/api/v1/executions/{id}/stream") as answer:
            assert answer.status_code in (200, 404)
            seen = (
                [line for line in answer.iter_lines() if line.startswith("id: ")] if answer.status_code == 200 else []
            )
        assert len(seen) == len(set(seen))


def test_deletion_races_leave_no_partial_record(api: Stack, store: Store) -> None:
    statuses: Counter[tuple[str, int]] = Counter()
    client = Client(api, statuses)
    over, ids = threading.Event(), []
    with ThreadPoolExecutor(4) as workers, ThreadPoolExecutor(10) as threads:
        working = [workers.submit(work, store, f"w{number}", over, client.delete_active) for number in range(4)]
        try:
            asked = []
            for number in range(EXECUTIONS):
                id = api.submit(environment="python", code="print(1)").json()["id"]
                ids.append(id)
                deeds = [client.read, client.delete, client.delete, client.cancel, client.follow]
                random.shuffle(deeds)
                asked += [threads.submit(deed, id) for deed in deeds[: 5 if number % 2 else 4]]
                asked.append(threads.submit(client.delete, id))
            for deed in asked:
                deed.result(120)
        finally:
            over.set()
        for one in working:
            one.result(60)
    assert statuses["DELETE ?active", 409] > statuses["DELETE ?active", 204] == 0
    assert statuses["DELETE ", 204] == EXECUTIONS  # each is deleted once, by one of the clients
    left_behind(api, store, ids)


def left_behind(api: Stack, store: Store, ids: list[str]) -> None:
    """Fail for what is still there of any of the executions."""
    queue.sweep(store)
    artifacts = Path(api.env["MAYFLY_STATE_DIR"]) / "blobs" / "artifacts"
    eventually(lambda: not list(artifacts.iterdir()), "the files of the executions are gone")
    eventually(lambda: not store.redis.exists(keys.EXPIRY), "no execution is left to expire")
    names = [key.decode() for key in store.redis.keys("*")]
    assert [name for name in names if any(id in name for id in ids)] == []
    assert store.redis.hmget(keys.tenant_counters("default"), "queued", "active", "reserved") == [b"0"] * 3
    for name in (keys.QUEUED, keys.ACTIVE, keys.RETRYING, keys.tenant_index("default"), keys.tenant_room("default")):
        assert not store.redis.exists(name), name
