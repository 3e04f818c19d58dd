"""A disk never fills by what has expired: rounds of executions with files leave as many bytes as the first round."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import pytest

from orchestrator.store import keys
from tests.harness import Stack, eventually

pytestmark = [pytest.mark.complete, pytest.mark.timeout(900)]
ROUNDS, EXECUTIONS = 6, 40
INPUT_BYTES, OUTPUT_BYTES, ARTIFACT_BYTES = 300_000, 200_000, 500_000
PROGRAM = f"""
import os, shutil
shutil.copy("in.bin", "/output/in.bin")
with open("/output/made.bin", "wb") as made:
    made.write(os.urandom({ARTIFACT_BYTES - INPUT_BYTES}))
print(os.urandom({OUTPUT_BYTES // 2}).hex())
"""


class StoredBytes(NamedTuple):
    """Bytes of contents on the disk, of Redis's append-only file, and of Redis's keys."""

    contents: int
    append_only: int
    redis: int


def size_below(path: str) -> int:
    """The bytes that the files and directories below a directory take on its disk."""
    found = 0
    for directory, names, files in os.walk(path):
        found += sum(512 * os.lstat(os.path.join(directory, name)).st_blocks for name in (*names, *files))
    return found


def stored_bytes(stack: Stack, redis: Any) -> StoredBytes:
    """All of it, with an append-only file as Redis rewrites it once the file has doubled."""
    redis.bgrewriteaof()

    def rewritten() -> bool:
        state = redis.info("persistence")
        return not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]

    eventually(rewritten, "the append-only file is rewritten", 120)
    assert redis.info("persistence")["aof_last_bgrewrite_status"] == "ok"
    sizes = (redis.memory_usage(key, samples=0) or 0 for key in redis.scan_iter(count=1000))
    return StoredBytes(
        size_below(str(stack.directory / "state" / "blobs")) + size_below(str(stack.directory / "state" / "sandboxes")),
        size_below(str(stack.directory / "appendonlydir")),
        sum(sizes),
    )


@contextmanager
def nothing_deleted(redis: Any) -> Iterator[None]:
    """As during a backup: so a short retention takes no file from an execution that waits."""
    redis.set(keys.BACKUP, "a test", ex=3600)
    try:
        yield
    finally:
        redis.delete(keys.BACKUP)


def run_round(stack: Stack) -> None:
    """Executions with an input, output and artifacts, all of them new bytes."""
    put = stack.client.put("/api/v1/blobs", content=os.urandom(INPUT_BYTES))
    assert put.status_code == 201, put.text
    files = [{"path": "main.py", "content": PROGRAM}, {"path": "in.bin", "blob": put.json()["blob"]}]
    limits = {"wall_seconds": 200}
    answers = [
        stack.submit(environment="python", files=files, entrypoint="main.py", limits=limits) for _ in range(EXECUTIONS)
    ]
    assert {answer.status_code for answer in answers} == {202}
    ends = [stack.ended(answer.json()["id"]) for answer in answers]
    assert {end["state"] for end in ends} == {"succeeded"}, ends


def is_empty(stack: Stack, redis: Any) -> bool:
    """Whether no execution and no file of one is left."""
    blobs = stack.directory / "state" / "blobs"
    found = (path for path in blobs.rglob("*") if path.is_file() or path.parent.name == "artifacts")
    return next(redis.scan_iter(keys.execution("*"), 1000), None) is None and next(found, None) is None


def test_expired_executions_leave_no_byte_behind(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(driver="oci", slots=4, retention_seconds=1, janitor_seconds=0.02).start()
    redis: Any = stack.redis.client()
    after: list[StoredBytes] = []
    with closing(redis):
        for number in range(ROUNDS):
            with nothing_deleted(redis):
                run_round(stack)
                if number == 0:
                    before = stored_bytes(stack, redis)
            eventually(lambda: is_empty(stack, redis), "every execution and every file has expired", 240)
            eventually(lambda: stack.reported("busy") == [0], "the worker is idle")
            after.append(stored_bytes(stack, redis))
    # The control: what is kept is seen, on the disk and in Redis.
    assert before.contents > EXECUTIONS * ARTIFACT_BYTES, before
    assert min(before.append_only, before.redis) > EXECUTIONS * 2**14, before
    flat = EXECUTIONS * ROUNDS * (OUTPUT_BYTES + ARTIFACT_BYTES) // 1000  # of the bytes that went through
    grown = {name: [getattr(one, name) - getattr(after[0], name) for one in after] for name in StoredBytes._fields}
    assert {name: growth for name, growth in grown.items() if growth[-1] > flat} == {}, after
