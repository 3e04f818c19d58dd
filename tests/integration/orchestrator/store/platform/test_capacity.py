"""A full Redis: the share of a tenant, the file for further output, and ends that can always be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator import queue
from orchestrator.errors import BlobsUnavailable, NotFound, StillRunning, StoreFull, TenantStoreFull
from orchestrator.janitor.janitor import Janitor
from orchestrator.models import Artifact, Compile, Specification
from orchestrator.settings import Settings
from orchestrator.states import Reason, State
from orchestrator.store import Store, keys, open_store
from orchestrator.store.accounting import IDEMPOTENCY_BYTES, RECORD_BYTES
from orchestrator.store.executions.records import Claim, Idempotency, QueueBounds
from orchestrator.store.executions.sealing import seal
from tests.builders.events import security_event
from tests.builders.processes.workers import heartbeat
from tests.builders.records import KEY, claimed, now, result, specification, submit, take
from tests.harness import RedisServer, eventually
from worker.attempt.output import FINE_ENTRIES, INLINE_BYTES, LONGEST_PAUSE_SECONDS, PAUSE_SECONDS, SWITCHES, OutputSink


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Store]:
    """A store whose Redis has 32 MB."""
    server = RedisServer(tmp_path, "--maxmemory", "32mb")
    server.start()
    store = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    yield store
    store.redis.close()
    server.stop()


def within(store: Store, tenant_bytes: int, tenant: str = "t", idempotency: Idempotency | None = None) -> str:
    """Submit for a tenant whose executions may take so many bytes."""
    made: Specification = specification(tenant)
    sealed, signature = seal(made, KEY)
    bounds = QueueBounds(1000, 1000, tenant_bytes)
    return store.records.submit(made, sealed, signature, queue.envelope(made), bounds, idempotency)[0]


def taken_bytes(store: Store, tenant: str = "t") -> int:
    return int(store.redis.hget(keys.tenant_room(tenant), "bytes") or 0)


def begun(store: Store, claim: Claim) -> OutputSink:
    sink = OutputSink(store, claim, 10**9)
    sink.begin()
    return sink


def ended(store: Store, id: str, *outputs: bytes) -> None:
    """Bring a submitted execution to its end, with that standard output."""
    sink = begun(store, claimed(store, id))
    for output in outputs:
        sink.write("stdout", output)
    sink.finish()
    sink.commit(result())


def fill(store: Store) -> None:
    """Take all of Redis's memory that can be had."""
    for size in (2**20, 2**14, 2**8):
        for _ in range(100_000):
            try:
                store.redis.append(f"filler:{size}", b"x" * size)
            except StoreFull:
                break
        else:
            pytest.fail("Redis takes everything")


def until_refused(store: Store, share: int) -> list[str]:
    """The submissions of a tenant until its share is full."""
    accepted: list[str] = []
    while len(accepted) < 100:
        try:
            accepted.append(within(store, share))
        except TenantStoreFull:
            return accepted
    pytest.fail("nothing is refused")


def test_tenant_keeps_its_share_and_others_have_room(store: Store) -> None:
    share = 10 * RECORD_BYTES
    accepted = until_refused(store, share)
    assert share / 2 < taken_bytes(store) <= share
    assert store.records.counts()["queued"] == len(accepted)
    within(store, share, "other")
    ended(store, accepted[0])
    assert store.records.delete(accepted[0], "t")
    assert store.records.get(within(store, share), "t").state == "queued"


def test_idempotency_keys_count_though_their_executions_are_deleted(store: Store) -> None:
    share, kept = 30 * RECORD_BYTES, 0
    with suppress(TenantStoreFull):
        for number in range(1000):
            id = within(store, share, idempotency=Idempotency(f"key {number}", "digest"))
            kept += 1
            ended(store, id)
            store.records.delete(id, "t")
    assert 30 < kept < share // IDEMPOTENCY_BYTES
    assert within(store, share, "other")
    store.redis.zadd(
        keys.tenant_idempotency("t"), dict.fromkeys(store.redis.zrange(keys.tenant_idempotency("t"), 0, 9), 1)
    )
    assert within(store, share, idempotency=Idempotency("another", "digest"))  # some have expired


def test_a_streamed_standard_input_counts_until_the_end(store: Store) -> None:
    made = specification("t")
    sealed, signature = seal(made, KEY)
    bounds, share = QueueBounds(1000, 1000, 20 * RECORD_BYTES), 20 * RECORD_BYTES
    store.records.submit(made, sealed, signature, queue.envelope(made), bounds, None, stdin_bytes=10**6)
    before = taken_bytes(store)
    store.stdin.append(made.id, "t", b"x" * (share // 2), None, last=False)
    assert taken_bytes(store) == before + share // 2
    store.stdin.append(made.id, "t", b"x" * (share // 2), 0, last=False)  # sent again
    assert taken_bytes(store) == before + share // 2
    with pytest.raises(TenantStoreFull):
        store.stdin.append(made.id, "t", b"y" * (share // 2), None, last=False)
    ended(store, made.id)
    assert taken_bytes(store) < before + 1000


def test_the_log_of_security_events_has_a_part_of_a_small_share(store: Store) -> None:
    within(store, 2 * 2**20)
    for number in range(1000):
        store.security.add(security_event("anomaly", f"{number} " + "x" * 900), tenant="t", source="api")
    for name in (keys.SECURITY, keys.tenant_security("t")):
        assert store.redis.memory_usage(name, samples=0) < 2**19
        assert store.redis.xrevrange(name, count=1)[0][1][b"d"].find(b"999 ") > 0


def test_stored_bytes_are_counted_until_deletion(store: Store) -> None:
    ids = [submit(store) for _ in range(3)]
    for id in ids:
        ended(store, id, b"x" * 1000)
    before = taken_bytes(store)
    real = sum(
        store.redis.memory_usage(key, samples=0) or 0 for id in ids for key in (keys.execution(id), keys.stream(id))
    )
    assert real / 2 < before < 2 * real
    ended(store, submit(store), b"y" * 50_000)
    assert 50_000 < taken_bytes(store) - before < 60_000
    for _, id in store.records.page_ids("t", None, 10):
        left = taken_bytes(store)
        assert store.records.delete(id, "t")
        assert taken_bytes(store) < left
    assert not store.redis.exists(keys.tenant_room("t"))


def test_active_execution_is_not_deleted(store: Store) -> None:
    id = submit(store)

    def refused() -> bool:
        with pytest.raises(StillRunning):
            store.records.delete(id, "t")
        return store.records.exist([id]) == [id]

    assert refused()
    claim = claimed(store, id)
    assert refused()
    store.records.start(claim, now())
    assert refused()
    store.records.commit(claim, result())
    assert store.records.delete(id, "t")
    assert not store.records.delete(id, "t")


def test_redis_keeps_the_first_of_the_output_and_a_file_the_rest(store: Store) -> None:
    id = submit(store)
    sink = begun(store, claimed(store, id))
    lines = [b"%07d\n" % number for number in range(5 * INLINE_BYTES // 8)]
    for start in range(0, len(lines), 1000):
        sink.write("stdout", b"".join(lines[start : start + 1000]))
        sink.write("stderr", b"%d\n" % start)
        sink.flush()
    sink.finish()
    sink.commit(result())
    assert store.output.bytes_of(id, 1, "stdout", ended=True) == [b"".join(lines)]
    errors = b"".join(b"%d\n" % start for start in range(0, len(lines), 1000))
    assert store.output.bytes_of(id, 1, "stderr", ended=True) == [errors]
    assert store.redis.memory_usage(keys.stream(id), samples=0) < 2 * INLINE_BYTES
    entries = store.output.filled(id, store.output.read(id, count=10_000))
    reported = b"".join(entry.data for entry in entries if entry.type == "stdout")
    assert reported == b"".join(lines)  # and as it is followed


def alternating(sink: OutputSink, count: int) -> None:
    """Single bytes, stdout and stderr by turns, as a worker's session hands them on."""
    for number in range(count):
        sink.write("stdout" if number % 2 else "stderr", b"%d" % (number % 10))
        sink.flush_if_due()


def test_single_bytes_by_turns_make_few_entries(store: Store) -> None:
    """Without merging, a million single bytes made a million entries, 25 MB for one execution."""
    id, count = submit(store), 400_000
    sink = begun(store, claimed(store, id))
    alternating(sink, count)
    sink.finish()
    sink.commit(result())
    out, err = store.output.bytes_of(id, 1, "stdout", "stderr", ended=True)
    assert out == b"13579" * (count // 10)
    assert err == b"02468" * (count // 10)
    assert store.redis.xlen(keys.stream(id)) < 2 * FINE_ENTRIES
    assert store.redis.memory_usage(keys.stream(id), samples=0) < count / 2


def test_few_pieces_keep_their_order(store: Store) -> None:
    id = submit(store)
    sink = begun(store, claimed(store, id))
    alternating(sink, SWITCHES)
    sink.finish()
    sink.commit(result())
    reported = [entry.data for entry in store.output.entries(id) if entry.type in ("stdout", "stderr")]
    assert b"".join(reported) == b"01234567"


def test_pauses_between_entries_grow_with_their_number(store: Store) -> None:
    sink = begun(store, claimed(store, submit(store)))
    pauses = []
    for _ in range(12 * FINE_ENTRIES):
        sink.write("stdout", b"x")
        sink.flush()
        pauses.append(sink.pause_seconds or 0.0)
        sink.write("stdout", b"x")
        pauses[-1] = sink.pause_seconds or 0.0
        sink.flush()
    # What is left of a pause: nearly all of it, unless this process had to wait in between.
    assert 0 < max(pauses[:10]) <= PAUSE_SECONDS
    assert PAUSE_SECONDS < max(pauses[FINE_ENTRIES : FINE_ENTRIES + 50]) <= 4 * PAUSE_SECONDS
    assert 0.5 < max(pauses[-10:]) <= LONGEST_PAUSE_SECONDS


def test_output_without_room_in_redis_goes_to_the_file(store: Store) -> None:
    id = within(store, 2 * RECORD_BYTES)
    sink = begun(store, claimed(store, id))
    sink.write("stdout", b"a" * 100)
    sink.flush()
    kept = store.redis.memory_usage(keys.stream(id), samples=0)
    for part in (b"b" * 5000, b"c" * 5000):
        sink.write("stdout", part)
        sink.flush()
    sink.write("stderr", b"d" * 5000)
    sink.finish()
    sink.commit(result())
    assert store.records.get(id, "t").state == "succeeded"
    assert store.output.bytes_of(id, 1, "stdout", "stderr", ended=True) == [
        b"a" * 100 + b"b" * 5000 + b"c" * 5000, b"d" * 5000
    ]  # fmt: skip
    assert store.redis.memory_usage(keys.stream(id), samples=0) - kept < 1000


def test_a_large_result_takes_little_of_redis(store: Store) -> None:
    """The list of a thousand artifacts with long names is a megabyte."""
    names = [f"{number:04}" + "é" * 500 for number in range(1000)]
    artifacts = tuple(Artifact(path=name, size=1, media_type="text/plain", sha256="0" * 64) for name in names)
    compiled = Compile(exit_code=0, stdout="\x00" * 60_000, stderr="x", wall_seconds=1.0)
    id = submit(store)
    claim = claimed(store, id)
    store.records.start(claim, now())
    before = taken_bytes(store)
    whole = result().model_copy(update={"artifacts": artifacts, "compile": compiled})
    store.records.commit(claim, whole)
    assert taken_bytes(store) < before + 1000
    assert store.redis.memory_usage(keys.execution(id), samples=0) < 10_000
    for found in (store.records.get(id, "t"), store.records.read(id, "t")[0], *store.records.get_many([id])):
        assert (found.artifacts, found.compile, found.state) == (artifacts, compiled, "succeeded")
    store.own_blobs.delete_artifacts(id)
    assert store.records.get(id, "t").artifacts == ()  # the rest is there
    assert store.records.get(id, "t").exit_code == 0


def test_full_disk_delays_output(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    id = submit(store)
    sink = begun(store, claimed(store, id))
    write, refuses = store.blobs.write_output, iter([True, False, True, True, False, True])

    def refusing(*args: object) -> None:
        if next(refuses, False):
            raise BlobsUnavailable()
        write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store.blobs), "write_output", lambda _, *args: refusing(*args))
    printed = b"x" * INLINE_BYTES
    sink.write("stdout", b"1" + printed)
    with pytest.raises(BlobsUnavailable):
        sink.flush()
    sink.flush()
    sink.write("stdout", b"2" + printed)
    sink.write("stderr", b"3" + printed)
    for _ in range(3):
        with pytest.raises(BlobsUnavailable):
            sink.commit(result())
    sink.commit(result())
    out, err = store.output.bytes_of(id, 1, "stdout", "stderr", ended=True)
    assert (out, err) == (b"1" + printed + b"2" + printed, b"3" + printed)


def test_missing_output_is_reported_as_incomplete(store: Store) -> None:
    id = submit(store)
    ended(store, id, b"x" * INLINE_BYTES, b"y" * INLINE_BYTES)
    store.own_blobs.delete_artifacts(id)
    with pytest.raises(NotFound, match="gone"):
        store.output.bytes_of(id, 1, "stdout", ended=True)


def test_execution_in_a_full_redis_ends_with_its_output(small: Store) -> None:
    """The control comes first: Redis does refuse commands that need memory."""
    running, cancelled, other = submit(small), submit(small), submit(small)
    sinks = [begun(small, claimed(small, id)) for id in (running, cancelled)]
    fill(small)
    with pytest.raises(StoreFull):
        small.redis.set("x", b"y" * 1000)
    with pytest.raises(StoreFull):
        submit(small)
    with pytest.raises(StoreFull):
        take(small)  # what is queued waits
    for sink in sinks:
        sink.write("stdout", b"x" * 10_000)
        sink.flush()
    assert small.records.request_cancel(cancelled, Reason.CANCELLED_BY_USER) is State.RUNNING
    assert small.records.cancel_requested([cancelled]) == [cancelled]
    sinks[0].write("stderr", b"last")
    sinks[0].finish()
    sinks[0].commit(result())
    assert small.records.get(running, "t").state == "succeeded"
    assert small.output.bytes_of(running, 1, "stdout", "stderr", ended=True) == [b"x" * 10_000, b"last"]
    assert small.records.requeue(cancelled, 1, handed_back=True)
    assert small.records.delete(running, "t")
    assert small.records.get(other, "t").state == "queued"


def test_the_janitor_makes_room_in_a_full_redis(small: Store, tmp_path: Path) -> None:
    ids = [submit(small) for _ in range(3)]
    for id in ids:
        ended(small, id, b"x" * 1000)
    small.redis.zadd(keys.EXPIRY, dict.fromkeys(ids, 1), xx=True)
    fill(small)
    settings = Settings(state_dir=tmp_path, redis_url="", janitor_seconds=0.05)
    janitor = Janitor(small, settings)
    janitor.start()
    try:
        eventually(lambda: not small.records.exist(ids), "the expired executions are deleted")
    finally:
        janitor.stop()


def test_a_worker_lives_in_a_full_redis(small: Store) -> None:
    fill(small)
    assert heartbeat(small, "w") == (False, False)
    assert heartbeat(small, "w") == (True, False)
    assert [worker.id for worker in small.fleet.alive()] == ["w"]
