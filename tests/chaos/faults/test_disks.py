"""Full disks: submissions that cannot be stored are refused, accepted executions are not lost, and free space resumes
work.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.invariants import Accepted, violations
from tests.harness import ROOT, Process, RedisServer, Stack, eventually

MIB = 2**20


class Disk:
    """A file system of its own, in memory."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._filler = path / "filler"
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=755", "tmpfs", str(path)], check=True)

    def fill(self) -> None:
        """Leave no byte of it free."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while os.write(descriptor, b"x" * MIB):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(descriptor)
        assert os.statvfs(self.path).f_bavail == 0

    def make_room(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """Mounts disks of so many bytes."""
    made: list[Disk] = []

    def make(size_bytes: int, path: Path | None = None) -> Disk:
        made.append(Disk(path or tmp_path / f"disk-{len(made)}", size_bytes))
        return made[-1]

    yield make
    for one in made:
        if os.path.ismount(one.path):  # `own_engine` unmounts what lies under it
            subprocess.run(["umount", str(one.path)], check=True)


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code")


def ended(stack: Stack, id: str) -> dict[str, Any]:
    return eventually(
        lambda: (execution := stack.show(id, wait=20))["finished_at"] and execution, "the execution ends", 120
    )


@pytest.mark.complete
def test_full_disk_under_redis_refuses_and_recovers(disk: Callable[..., Disk], own_stack: Callable[..., Stack]) -> None:
    full = disk(8 * MIB)
    stack = own_stack()
    stack.redis = RedisServer(stack.directory, "--dir", str(full.path))
    stack.start()
    code = "import time; print(1, flush=True); time.sleep(4); print(2)"
    limits = {"wall_seconds": 60}
    ids = [stack.submit(environment="python", code=code, limits=limits).json()["id"] for _ in range(2)]
    accepted = [Accepted(id, "1\n2\n") for id in ids]
    eventually(lambda: stack.show(accepted[0].id)["state"] == "running", "an execution runs")
    full.fill()

    def refused() -> Any:
        answer = stack.submit(environment="python", code=f"print('{'x' * 10_000}')")
        if answer.status_code == 202:
            accepted.append(Accepted(answer.json()["id"], "x" * 10_000 + "\n"))
        return answer.status_code != 202 and answer

    answer = eventually(refused, "Redis cannot write")
    assert problem(answer) == (503, "store_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    eventually(lambda: stack.fleet() == [], "the worker's lease has run out")
    assert stack.client.get("/readyz").status_code == 503
    full.make_room()
    for one in accepted:
        one.reported = ended(stack, one.id)
    stack.redis.stop()
    stack.redis.start()
    assert stack.run(code="print(3)")["stdout"] == "3\n"
    for one in accepted:
        one.reported_again = stack.show(one.id)
        assert one.reported_again["state"] == "succeeded"
    for worker in stack.workers:
        assert worker.stop() == 0
    last = [id for id in kept(stack) if id not in {one.id for one in accepted}]
    accepted += [Accepted(id, "3\n", reported=stack.show(id), reported_again=stack.show(id)) for id in last]
    with stack.redis.client() as redis:
        eventually(lambda: not violations(redis, accepted), "nothing is violated")


def kept(stack: Stack) -> list[str]:
    answer = stack.client.get("/api/v1/executions", params={"limit": 200})
    return [one["id"] for one in answer.json()["items"]]


def test_full_disk_under_blobs_refuses_and_recovers(disk: Callable[..., Disk], own_stack: Callable[..., Stack]) -> None:
    full = disk(4 * MIB)
    stack = own_stack(blob_dir=str(full.path), disk_free_bytes=0, retry_seconds=0.2, max_attempts=50).start()
    before = os.urandom(MIB // 2)
    put = stack.client.put("/api/v1/blobs", content=before)
    assert put.status_code == 201
    full.fill()
    answer = stack.client.put("/api/v1/blobs", content=os.urandom(MIB))
    assert problem(answer) == (503, "blobs_unavailable")
    writes = "open('/output/it', 'wb').write(open('inputs/before', 'rb').read())"
    files = [{"path": "before", "blob": put.json()["blob"]}, {"path": "main.py", "content": writes}]
    id = stack.submit(environment="python", files=files, entrypoint="main.py").json()["id"]
    eventually(lambda: stack.show(id)["attempt"] > 1, "a second attempt begins, as the artifact cannot be kept")
    assert stack.show(id)["state"] not in ("succeeded", "failed")
    full.make_room()
    assert stack.artifact(ended(stack, id), "it") == before
    assert stack.client.put("/api/v1/blobs", content=os.urandom(MIB)).status_code == 201
    assert list(full.path.rglob(".upload-*")) == []


@pytest.mark.complete
def test_full_disk_under_inputs_delays_executions(disk: Callable[..., Disk], own_stack: Callable[..., Stack]) -> None:
    full = disk(MIB)
    bounds = {"disk_free_bytes": 0, "retry_seconds": 0.2, "max_attempts": 50, "pool_sizes": {}}
    stack = own_stack(sandbox_dir=str(full.path), **bounds).start()
    full.fill()
    id = stack.submit(environment="python", code=f"print(len('{'x' * 100_000}'))").json()["id"]
    (troubled,) = eventually(
        lambda: [one for one in stack.fleet() if one["trouble"]], "the worker reports the trouble", 60
    )
    assert "directory for inputs" in troubled["trouble"][0]
    assert stack.show(id)["finished_at"] is None
    full.make_room()
    assert ended(stack, id)["stdout"] == "100000\n"
    eventually(lambda: stack.reported("trouble") == [[]], "the worker reports the end of the trouble")
    for worker in stack.workers:
        assert worker.stop() == 0
    assert [path.name for path in full.path.iterdir()] == []


@pytest.mark.complete
def test_full_disk_under_the_engine_delays_executions(
    disk: Callable[..., Disk], own_engine: tuple[str, Callable[..., Process]], own_stack: Callable[..., Stack]
) -> None:
    """With the check of disks, and without it."""
    url, start = own_engine
    full = disk(700 * MIB, Path(url.removeprefix("unix://")).with_name("data"))
    start()
    only_python = full.path.parent / "environments"
    only_python.mkdir()
    shutil.copy(ROOT / "sandbox_image" / "environments" / "python.toml", only_python)
    stack = own_stack(
        docker_url=url, environments_dirs=[str(only_python)], disk_free_bytes=16 * MIB, retry_seconds=0.2,
        max_attempts=50,
    ).start()  # fmt: skip
    assert stack.run(code="print(1)")["stdout"] == "1\n"
    full.fill()
    (worker,) = eventually(
        lambda: [one for one in stack.fleet() if one["trouble"]], "the worker reports the trouble", 60
    )
    assert worker["trouble"][0].startswith(f"engine ({full.path}): 0 bytes are free")
    id = stack.submit(environment="python", code="print(2)").json()["id"]
    assert stack.show(id, wait=3)["state"] == "queued"
    full.make_room()
    assert ended(stack, id)["stdout"] == "2\n"
    assert stack.workers.pop().stop() == 0
    stack.start_worker(MAYFLY_DISK_FREE_BYTES="0")
    eventually(
        lambda: [one for one in stack.fleet() if one["pool"].get("python")], "another container waits in the pool", 60
    )
    full.fill()
    ids = [stack.submit(environment="python", code="print(3)").json()["id"] for _ in range(6)]
    (worker,) = eventually(
        lambda: [one for one in stack.fleet() if one["trouble"]], "the worker reports the trouble", 120
    )
    assert "The container engine failed to" in worker["trouble"][0]
    full.make_room()
    assert {ended(stack, id)["stdout"] for id in ids} == {"3\n"}
    eventually(lambda: stack.reported("trouble") == [[]], "the worker reports the end of the trouble")
