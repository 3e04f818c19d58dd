"""Cgroups that a runtime leaves of a container that is gone: the docker driver removes them."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from orchestrator.errors import RuntimeUnavailable
from orchestrator.host.posture import INSTALLATION_LABEL
from tests.harness import Way, eventually
from tests.hostile.sandbox import ENVIRONMENTS, WORKER, Bench
from tests.selection import ways
from worker.drivers.base import Owned
from worker.drivers.docker import removal
from worker.drivers.docker.config import WORKER_LABEL
from worker.host import cgroups, killing
from worker.upkeep.reaper import reap

CGROUPS = Path("/sys/fs/cgroup")
PYTHON = ENVIRONMENTS["python"]
TRIES = 5


@pytest.fixture(params=["docker-runc"])
def bench(
    request: pytest.FixtureRequest, images: Path, need_runtime: Callable[..., None], tmp_path: Path
) -> Iterator[Bench]:
    way = Way(request.param)
    need_runtime(way.runtime, way.driver)
    made = Bench(tmp_path / "bench", images, way)
    yield made
    made.close()


@pytest.fixture
def left(bench: Bench) -> Iterator[tuple[str, list[Path]]]:
    """A container that another worker made, and cgroups of it of which its runtime knows nothing."""
    name = f"mayfly-test-other-{secrets.token_hex(6)}"
    labels = {INSTALLATION_LABEL: bench.settings.installation, WORKER_LABEL: "test-other"}
    id = bench.driver.engine.api().create_container(bench.driver.image(PYTHON).id, name=name, labels=labels)["Id"]
    places = [each / "docker" / id for each in hierarchies()]
    for place in places:
        place.mkdir(parents=True)
    yield name, places
    for place in places:
        if place.exists():
            place.rmdir()


def hierarchies() -> list[Path]:
    """Where this host mounts its cgroups: one place with version 2 alone."""
    return [CGROUPS] if cgroups.is_unified(CGROUPS) else [each for each in CGROUPS.iterdir() if os.path.ismount(each)]


def owned(bench: Bench, name: str) -> Owned:
    """The handle of a container."""
    found: list[Owned] = [container for container in bench.driver.owned() if container.name == name]
    return found[0]


def reaped() -> float:
    return REGISTRY.get_sample_value("mayfly_reaped_total", {"kind": "cgroup"}) or 0.0


def failures() -> float:
    return REGISTRY.get_sample_value("mayfly_cleanup_failures_total") or 0.0


def reap_all(bench: Bench) -> int:
    """Reap the containers of dead workers."""
    return reap(bench.driver, bench.launcher, bench._host_dirs, WORKER, set)


def test_cgroups_of_a_container_that_is_gone_are_removed(bench: Bench, left: tuple[str, list[Path]]) -> None:
    name, places = left
    before = reaped()
    container = owned(bench, name)
    container.destroy()
    assert [place for place in places if place.exists()] == []
    assert reaped() == before + 1
    container.destroy()  # safe at any point
    assert reaped() == before + 1


def test_engine_alone_leaves_stale_cgroups(
    bench: Bench, left: tuple[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without the worker's removal the cgroups stay."""
    name, places = left
    monkeypatch.setattr(removal, "remove_cgroups", lambda *_: None)
    owned(bench, name).destroy()
    assert all(place.exists() for place in places)


def test_cgroups_of_a_dead_worker_s_container_are_removed(bench: Bench, left: tuple[str, list[Path]]) -> None:
    assert reap_all(bench) == 1
    assert [place for place in left[1] if place.exists()] == []


def test_process_left_in_a_stale_cgroup_is_ended(bench: Bench, left: tuple[str, list[Path]]) -> None:
    name, places = left
    with subprocess.Popen(["sleep", "60"]) as process:
        for place in places:
            if place.parts[4] != "cpuset":  # in which a new cgroup has no processors
                (place / "cgroup.procs").write_text(str(process.pid))
        owned(bench, name).destroy()
        assert process.wait(60) == -9
    assert [place for place in places if place.exists()] == []


def test_worker_without_cgroup_access_reports_stale_cgroups(
    bench: Bench, left: tuple[str, list[Path]], tmp_path: Path
) -> None:
    name, places = left
    source = next(each for each in hierarchies() if each.name in (CGROUPS.name, "pids"))
    root = tmp_path / "root"
    target = root if source == CGROUPS else root / source.name
    target.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(target)], check=True)
        bench.driver._cgroup_root = root
        before = failures(), reaped()
        with capture_logs() as logs:
            owned(bench, name).destroy()
    finally:
        subprocess.run(["umount", str(target)], check=True)
    assert (failures(), reaped()) == (before[0] + 1, before[1])
    (printed,) = [row for row in logs if row["event"] == "cgroup.not_removed"]
    assert printed["container"] == places[0].name
    assert all(place.exists() for place in places)
    assert bench.driver.owned() == []


@pytest.mark.parametrize("bench", ways("docker-runsc"), indirect=True)
def test_runtime_killed_during_creation_leaves_no_cgroup(bench: Bench) -> None:
    """As after an OOM kill: gVisor's runtime works in the new cgroup before it has recorded that."""
    before = reaped()
    for _ in range(TRIES):
        with ThreadPoolExecutor(1) as threads:
            start = threads.submit(bench.launcher.launch, PYTHON, "hardened", PYTHON.defaults)
            id = eventually(lambda: being_created(bench), "the runtime works in the cgroup", 20)
            killing.kill_all(CGROUPS, id)
            with suppress(RuntimeUnavailable):  # a kill after the creation proves nothing, and is no failure
                bench.launcher.destroy(start.result())
        assert killing.directories(CGROUPS, id) == []
    assert reaped() > before, "the control: the runtime left some"


def being_created(bench: Bench) -> str | None:
    """The id of the container whose cgroup has a process."""
    found = bench.driver.engine.api().containers(all=True, filters={"name": f"mayfly-{WORKER}-"})
    ids = [one["Id"] for one in found if one["Labels"].get(INSTALLATION_LABEL) == bench.settings.installation]
    return next((id for id in ids if any(map(killing._pids, killing.directories(CGROUPS, id)))), None)
