"""Every driver's handles can be destroyed at any point, twice, and during a kill."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import RuntimeUnavailable
from orchestrator.models import Isolation
from tests.builders.sandboxes.sandboxes import bench_for
from tests.harness import Way
from tests.hostile.sandbox import ENVIRONMENTS, WORKER, Bench
from tests.selection import EACH_WAY
from worker.drivers.docker.engine import Engine
from worker.drivers.docker.sandbox import DockerSandbox
from worker.drivers.oci.sandbox import OciSandbox
from worker.pool.launcher import Lease
from worker.upkeep.reaper import reap

PYTHON = ENVIRONMENTS["python"]
KILLS = 20


@pytest.fixture(params=EACH_WAY)
def bench(
    request: pytest.FixtureRequest, images: Path, need_runtime: Callable[..., None], tmp_path: Path
) -> Iterator[Bench]:
    with bench_for(Way(request.param), tmp_path / "bench", images, need_runtime) as made:
        yield made


def isolation_of(bench: Bench) -> Isolation:
    return "hardened" if bench.settings.hardened_runtime == "runsc" else "standard"


def launch(bench: Bench) -> Lease:
    return bench.launcher.launch(PYTHON, isolation_of(bench), PYTHON.defaults)


def directories(bench: Bench) -> list[Path]:
    """Those with the inputs of sandboxes, each the lease of a uid."""
    return [path for path, _ in bench._host_dirs.leases()]


def descriptors(bench: Bench) -> int:
    """Open ones; those to the engine come and go, since its client keeps some connections."""
    opened = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    named = [os.readlink(path) for path in opened if os.path.lexists(path)]
    return sum(bench.driver.name != "docker" or not name.startswith("socket:") for name in named)


def fail(*_: object, **__: object) -> Any:
    raise RuntimeUnavailable("It fails.")


def test_handle_that_was_destroyed_answers_every_call(bench: Bench) -> None:
    launch_once(bench)
    before = descriptors(bench)
    lease = launch(bench)
    sandbox = lease.sandbox
    assert sandbox.receive(0) is None
    counted = sandbox.counters()
    for _ in range(2):
        sandbox.destroy()
        assert bench.driver.owned() == []
        sandbox.kill()
        assert (sandbox.receive(1), sandbox.wait(1)) == (b"", None)
        assert (sandbox.counters().cpu_seconds or 0) >= (counted.cpu_seconds or 0)
        with pytest.raises(RuntimeUnavailable, match="closed"):
            sandbox.send(b"x", 1)
    assert descriptors(bench) == before
    bench.launcher.destroy(lease)
    assert directories(bench) == []


def launch_once(bench: Bench) -> None:
    """So that whatever is made once for all containers is there."""
    bench.launcher.destroy(launch(bench))


def test_handle_can_be_destroyed_before_its_start(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (DockerSandbox, OciSandbox):
        monkeypatch.setattr(kind, "start", fail)
    with pytest.raises(RuntimeUnavailable, match="It fails"):
        launch(bench)
    assert (bench.driver.owned(), directories(bench)) == ([], [])


STEPS: dict[str, list[tuple[type, str]]] = {
    "docker": [(Engine, "attach"), (Engine, "start"), (DockerSandbox, "_refuse_other_limits")],
    "oci": [(OciSandbox, name) for name in ("_start_runtime", "_await_start", "_hold", "_refuse_weaker")],
}


def test_handle_whose_start_failed_half_way_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    launch_once(bench)
    before = descriptors(bench)
    for owner, name in STEPS[bench.driver.name]:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(RuntimeUnavailable, match="It fails"):
                launch(bench)
        assert (name, bench.driver.owned(), directories(bench)) == (name, [], [])
        assert descriptors(bench) == before, name
    launch_once(bench)


@pytest.mark.parametrize("bench", ["docker-runc"], indirect=True)
def test_container_whose_creation_was_not_answered_is_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    create = Engine.create
    made: list[str] = []

    def unanswered(engine: Engine, config: dict[str, Any], name: str) -> str:
        made.append(create(engine, config, name))
        raise RuntimeUnavailable("No answer.")

    monkeypatch.setattr(Engine, "create", unanswered)
    with pytest.raises(RuntimeUnavailable, match="No answer"):
        launch(bench)
    assert made
    assert (bench.driver.owned(), directories(bench)) == ([], [])


def test_handle_is_destroyed_while_other_threads_kill(bench: Bench) -> None:
    lease = launch(bench)
    begun = threading.Barrier(3)
    errors: list[Exception] = []

    def kill() -> None:
        begun.wait(60)
        try:
            for _ in range(KILLS):
                lease.sandbox.kill()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=kill) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    bench.launcher.destroy(lease)
    for thread in threads:
        thread.join()
    assert errors == []
    assert (bench.driver.owned(), directories(bench)) == ([], [])


def test_container_that_cannot_be_destroyed_keeps_its_uid(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the reaper has destroyed the container by the handle from the driver's list."""
    lease = launch(bench)
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "remove", fail)
        patch.setattr("worker.drivers.oci.sandbox.remove", fail)
        bench.launcher.destroy(lease)
    assert [container.name for container in bench.driver.owned()] == [lease.name]
    assert directories(bench) == sorted(lease.host_dir.paths)
    assert not bench.launcher.live
    assert reap(bench.driver, bench.launcher, bench._host_dirs, WORKER, set) == 1 + len(lease.host_dir.paths)
    assert (bench.driver.owned(), directories(bench)) == ([], [])


def test_handle_of_a_container_that_another_worker_removed(bench: Bench) -> None:
    lease = launch(bench)
    (listed,) = bench.driver.owned()
    assert (listed.name, listed.worker) == (lease.name, WORKER)
    listed.destroy()
    listed.destroy()
    assert lease.sandbox.receive(20) == b""
    bench.launcher.destroy(lease)
    assert (bench.driver.owned(), directories(bench)) == ([], [])
