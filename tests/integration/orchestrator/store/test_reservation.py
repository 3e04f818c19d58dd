"""Memory for claims and ends is reserved: accepted executions run and end beside any amount of output."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.errors import StoreFull
from orchestrator.models import Artifact, Result
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from orchestrator.store.accounting import RESERVED_BYTES
from orchestrator.store.executions.records import RESULT, RESULT_BYTES
from orchestrator.store.platform.capacity import used_bytes
from tests.builders.records import result, submit, take
from tests.harness import RedisServer, eventually
from worker.attempt.output import INLINE_BYTES, OutputSink

MAX_MEMORY_BYTES = 32 * 2**20
FILLED_BYTES = 20 * 2**20  # by what was kept earlier
EXECUTIONS = 200
THREADS = 16
SPARE_BYTES = 2**19  # clients' buffers come and go


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Store]:
    """A store whose Redis has 32 MB, of which most is used."""
    server = RedisServer(tmp_path, "--maxmemory", str(MAX_MEMORY_BYTES))
    server.start()
    store = open_store(Settings(state_dir=tmp_path, redis_url=server.url))
    for number in range(FILLED_BYTES // 2**18):
        store.redis.set(f"filler:{number}", b"x" * (2**18 - 100))  # the allocator rounds up
    yield store
    store.redis.close()
    server.stop()


def has_room(store: Store) -> bool:
    """Whether a submission would be accepted."""
    try:
        store.capacity.accept(2000)
    except StoreFull:
        return False
    return True


def accept(store: Store) -> str:
    """Submit as the service does: only where there is room."""
    store.capacity.accept(2000)
    return submit(store, limit=10_000)


def large_result() -> Result:
    """Nearly as much as Redis keeps of a result."""
    names = [f"{number:03}" + "n" * 250 for number in range(40)]
    artifacts = tuple(Artifact(path=name, size=1, media_type="text/plain", sha256="0" * 64) for name in names)
    made = result().model_copy(update={"artifacts": artifacts})
    assert RESULT_BYTES * 0.9 < len(RESULT.dump_json(made)) <= RESULT_BYTES
    return made


def run_next(store: Store, output: bytes, ended: Result) -> str:
    """Claim what is next and run it to its end. Raises :class:`StoreFull` if there is no room for the claim."""
    claim = take(store)
    assert claim is not None
    sink = OutputSink(store, claim, 10**9)
    sink.begin()
    sink.write("stdout", output)
    sink.flush()
    sink.write("stderr", b"end")
    sink.finish()
    sink.commit(ended)
    return claim.id


def used(store: Store) -> int:
    return used_bytes(store.redis.info("memory"))


def wait_for_replica(store: Store, bytes_: int) -> None:
    """Write until so many bytes wait for a replica that reads nothing, as others wait for a busy disk."""

    def waiting() -> int:
        store.redis.set("passing", b"x" * 2**18)
        return int(store.redis.info("memory")["mem_not_counted_for_evict"])

    eventually(lambda: waiting() >= bytes_, "so much waits for the replica")
    store.redis.delete("passing")


def test_accepted_executions_all_end_whole_though_their_output_would_fill_redis(small: Store) -> None:
    """Their output is 13 MB where 12 are left. Without a reservation it takes all, and queued executions expire."""
    ids = {accept(small) for _ in range(EXECUTIONS)}
    output = b"y" * (INLINE_BYTES - 1000)
    with ThreadPoolExecutor(THREADS) as pool:
        ran = set(pool.map(lambda _: run_next(small, output, large_result()), range(EXECUTIONS)))
    assert ran == ids
    for id in ids:
        found = small.records.get(id, "t")
        assert (found.state, found.attempt, len(found.artifacts)) == ("succeeded", 1, 40)
        assert small.output.bytes_of(id, 1, "stdout", "stderr", ended=True) == [output, b"end"]
    assert used(small) < MAX_MEMORY_BYTES
    inline = sum(small.redis.memory_usage(keys.stream(id), samples=0) > INLINE_BYTES for id in ids)
    assert 0 < inline < EXECUTIONS  # the control: some of the output had room, and some had not


def test_output_does_not_use_reserved_room(small: Store) -> None:
    """The output would fit into Redis if no other execution had been accepted."""
    accept(small)
    claim = take(small)
    assert claim is not None
    sink = OutputSink(small, claim, 10**9)
    sink.begin()
    sink.write("stdout", b"first")
    sink.flush()
    accepted = 1
    while 0.9 * MAX_MEMORY_BYTES - used(small) - accepted * RESERVED_BYTES > -SPARE_BYTES:
        submit(small, limit=10_000)
        accepted += 1
    eventually(lambda: not small.redis.exists(keys.ROOM_LEFT), "the remembered room has expired")
    assert used(small) < 0.9 * MAX_MEMORY_BYTES - 2**20
    sink.write("stdout", b"x" * 60_000)
    sink.flush()
    assert small.redis.memory_usage(keys.stream(claim.id), samples=0) < 10_000
    assert b"".join(small.output.bytes_of(claim.id, 1, "stdout", ended=False)) == b"first" + b"x" * 60_000


def test_data_for_replicas_or_the_disk_takes_no_room(small: Store) -> None:
    """Redis does not count it either: here are 12 MB where 8 are left, and submissions and output have room."""
    small.redis.config_set("repl-diskless-sync-delay", 0)
    with socket.socket(socket.AF_UNIX) as replica:
        replica.connect(small.redis.connection_pool.connection_kwargs["path"])
        replica.sendall(b"SYNC\r\n")
        wait_for_replica(small, 12 * 2**20)
        assert small.redis.info("memory")["used_memory"] > MAX_MEMORY_BYTES  # the control
        assert has_room(small)
        accept(small)
        claim = take(small)
        assert claim is not None
        sink = OutputSink(small, claim, 10**9)
        sink.begin()
        sink.write("stdout", b"x" * 20_000)
        sink.flush()
        assert small.redis.memory_usage(keys.stream(claim.id), samples=0) > 20_000


def test_submission_reserves_memory_and_end_releases_the_reserve(small: Store) -> None:
    accepted = 0
    while has_room(small):
        submit(small, limit=10_000, tenant_limit=10_000)
        accepted += 1
    assert 50 < accepted < (MAX_MEMORY_BYTES - FILLED_BYTES) / RESERVED_BYTES
    for _ in range(accepted):
        run_next(small, b"", result())
    eventually(lambda: has_room(small), "submissions are accepted again")
