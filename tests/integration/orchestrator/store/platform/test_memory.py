"""The memory in Redis of an ended execution, beside its output."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.models import Facts, Result, Timings, Usage
from orchestrator.store import Store, keys
from orchestrator.store.accounting import RECORD_BYTES
from tests.builders.records import claimed, now, result, submit

COUNT = 50
MOST_BYTES = 3_000  # of one execution, as docs/scaling.md has it
OUTPUT = b"1\n"
MEASURED = Result(
    state="succeeded",
    reason=None,
    fault=None,
    facts=Facts(exit_code=0, seccomp_kills=0, output_bytes=2, run_seconds=0.0033125877380371, cpu_seconds=0.006231),
    driver="oci",
    runtime="crun",
    start="warm",
    exit_code=0,
    signal=None,
    stdout_bytes=2,
    stderr_bytes=0,
    compile=None,
    artifacts=(),
    usage=Usage(
        wall_seconds=0.0033125877380371, cpu_seconds=0.006231, peak_memory_bytes=7_340_032, peak_processes=3,
        throttled_seconds=0.0,
    ),
    timings=Timings(
        queue_seconds=0.0009412765502929, start_seconds=0.0006213188171386, run_seconds=0.0033125877380371,
        collect_seconds=0.0012238025665283,
    ),
)  # fmt: skip


def ended(store: Store, committed: Result = MEASURED) -> str:
    """An execution that has ended with that output, in the steps of a worker."""
    id = submit(store, tenant="default", key="0123456789abcdef")
    claim = claimed(store, id, "worker-host-12345-abcdef")
    store.records.start(claim, now(), [("stdout", OUTPUT, 0)])
    store.records.commit(claim, committed)
    return id


def used_bytes(store: Store) -> dict[str, int]:
    """The memory of all keys of Redis that grow with the executions."""
    found: Counter[str] = Counter()
    for key in store.redis.scan_iter(match="mayfly:*"):
        name = key.decode()
        kind = name.rpartition(":")[0] if name.startswith(("mayfly:execution:", "mayfly:stream:")) else name
        found[kind] += store.redis.memory_usage(key, samples=0)
    return found


def test_ended_execution_takes_three_kilobytes_beside_output(store: Store) -> None:
    for _ in range(COUNT):
        ended(store)
    used = used_bytes(store)
    growing = ("mayfly:execution", "mayfly:stream", keys.tenant_index("default"), keys.EXPIRY)
    assert sum(used[name] for name in growing) / COUNT <= MOST_BYTES, used
    rest = {name: used[name] for name in used if name not in growing}
    assert sum(rest.values()) / COUNT < MOST_BYTES / 10, rest  # nothing else grows with them


def test_end_frees_the_unused_part_of_the_stream(store: Store) -> None:
    id = submit(store)
    claim = claimed(store, id)
    store.records.start(claim, now(), [("stdout", OUTPUT, 0)])
    growing = store.redis.memory_usage(keys.stream(id), samples=0)
    entries, charged = store.output.read(id), int(store.redis.hget(keys.tenant_room("t"), "bytes"))
    store.records.commit(claim, MEASURED)
    assert store.redis.memory_usage(keys.stream(id), samples=0) < growing / 4
    assert store.output.read(id)[: len(entries)] == entries
    assert charged - int(store.redis.hget(keys.tenant_room("t"), "bytes")) > RECORD_BYTES / 2
    assert not store.redis.exists(keys.shrunk(keys.stream(id)))


@pytest.mark.parametrize("committed", [MEASURED, result()], ids=["measured", "defaults"])
def test_reader_gets_the_committed_result(store: Store, committed: Result) -> None:
    """The record omits default values, and times have microseconds."""
    found = store.records.get(ended(store, committed), "default")
    wanted, shown = committed.model_dump(mode="json"), found.model_dump(mode="json")
    assert {name: shown[name] for name in wanted} == wanted
    assert (found.retry, found.loopback, found.mode, found.policy) == (True, False, "script", None)
