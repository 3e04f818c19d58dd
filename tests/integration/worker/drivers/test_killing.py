"""A kill ends every process of a container, whatever its first process gets of the processors."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.sandboxes.sandboxes import bench_for
from tests.harness import Way, eventually
from tests.hostile.sandbox import ENVIRONMENTS, Bench, Sandbox
from tests.selection import ways
from worker.agent.frames import FromAgent
from worker.drivers.docker import sandbox as docker_sandbox
from worker.drivers.docker.engine import Engine
from worker.drivers.oci import sandbox as oci_sandbox
from worker.host import cgroups, killing

CGROUPS = Path("/sys/fs/cgroup")
CHILDREN = 250
BUSY = f"""
import os
ready, go = os.pipe()
for _ in range({CHILDREN}):
    if os.fork() == 0:
        os.close(go)
        os.read(ready, 1)
        while True: pass
print("busy", flush=True)
os.close(go)
while True: pass
"""
LOWEST = 19
PATIENT = 3.0  # times as long as a kill of all took: by then one of the first process alone is still not done


@pytest.fixture(params=["docker-runc", "oci-crun", "docker-runsc", "oci-runsc"])
def bench(
    request: pytest.FixtureRequest, images: Path, need_runtime: Callable[..., None], tmp_path: Path
) -> Iterator[Bench]:
    with bench_for(Way(request.param), tmp_path, images, need_runtime) as made:
        yield made


def members(sandbox: Sandbox) -> list[int]:
    """The processes of a container, as the host numbers them."""
    one: Any = sandbox.lease.sandbox
    place = killing._place(CGROUPS, getattr(one, "_id", sandbox.lease.name))
    return [] if place is None else killing._pids(place)


def starved(sandbox: Sandbox) -> None:
    """Have the container full of busy processes, and its first one last in the queue for a processor."""
    (first,) = members(sandbox)
    sandbox.begin(BUSY)
    printed = b""
    while b"busy" not in printed:
        frames = sandbox.lease.frames(60)
        assert frames, printed
        printed += b"".join(frame.payload for frame in frames if frame.kind is FromAgent.STDOUT)
    os.setpriority(os.PRIO_PROCESS, first, LOWEST)  # a program may do so itself where seccomp lets it
    assert len(members(sandbox)) > CHILDREN


def launched(bench: Bench, cpu_cores: float) -> Any:
    limits = ENVIRONMENTS["python"].defaults.model_copy(
        update={"cpu_cores": cpu_cores, "processes": CHILDREN + 2, "memory_bytes": 2**30}
    )
    return bench.sandbox(limits=limits)


def killed(sandbox: Sandbox, seconds: float) -> float | None:
    """How long it takes until no process is left; ``None`` if it takes longer than that."""
    began = time.monotonic()
    sandbox.lease.sandbox.kill()
    while members(sandbox):
        if time.monotonic() - began > seconds:
            return None
        time.sleep(0.001)  # nothing announces that the last one has left
    return time.monotonic() - began


@pytest.mark.alone
@pytest.mark.parametrize("bench", ways("docker-runc", "oci-crun"), indirect=True)
@pytest.mark.parametrize("cpu_cores", [0.1, 2.0])
def test_a_starved_first_process_delays_no_kill(bench: Bench, cpu_cores: float) -> None:
    with launched(bench, cpu_cores) as sandbox:
        starved(sandbox)
        before = sandbox.lease.sandbox.counters().cpu_seconds or 0.0
        took = killed(sandbox, 10)
        assert took is not None
        ended = eventually(lambda: sandbox.lease.sandbox.wait(10), "the driver reports the end")
        assert ended.exit_code == 137
        assert (sandbox.lease.sandbox.counters().cpu_seconds or 0.0) >= before


@pytest.mark.alone
@pytest.mark.parametrize("bench", ways("docker-runc", "oci-crun"), indirect=True)
def test_a_kill_of_the_first_process_alone_takes_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control, tried three times: sometimes the scheduler gives the first process a turn at once."""
    with launched(bench, 0.1) as sandbox:
        starved(sandbox)
        took = killed(sandbox, 10)
        assert took is not None

    def first_alone_is_done() -> bool:
        with launched(bench, 0.1) as sandbox, monkeypatch.context() as patch:
            starved(sandbox)
            for module in (docker_sandbox, oci_sandbox):
                patch.setattr(module, "kill_all", lambda *_, **__: False)
            patch.setattr(Engine, "lift_cpu", lambda *_: None)
            patch.setattr(Engine, "kill", first_alone)
            return killed(sandbox, PATIENT * took) is not None

    assert not all(first_alone_is_done() for _ in range(3))


def first_alone(engine: Engine, id: str) -> None:
    """Kill the first process as an engine does, without its waits."""
    os.kill(engine.api().inspect_container(id)["State"]["Pid"], 9)


@pytest.mark.parametrize("bench", ways("docker-runc", "docker-runsc", "oci-crun", "oci-runsc"), indirect=True)
def test_a_frozen_container_is_killed_and_removed(bench: Bench) -> None:
    """A worker may die between freezing and thawing; the next worker still ends the container."""
    way = "hardened" if bench.settings.hardened_runtime == "runsc" else "standard"
    with bench.sandbox(isolation=way) as sandbox:  # type: ignore[arg-type]
        one: Any = sandbox.lease.sandbox
        place = killing._place(CGROUPS, getattr(one, "_id", sandbox.lease.name))
        assert place is not None
        for name, value in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
            if (place / name).exists():
                (place / name).write_text(value)
        assert killed(sandbox, 10) is not None


def test_where_the_cgroup_cannot_be_seen_the_engine_kills(
    images: Path, need_runtime: Callable[..., None], tmp_path: Path
) -> None:
    need_runtime("runc", "docker")
    bench = Bench(tmp_path / "bench", images, Way("docker-runc"))
    bench.driver._cgroup_root = tmp_path  # as in a container of its own, without the host's mounts
    try:
        with bench.sandbox() as sandbox:
            pid = bench.driver.engine.api().inspect_container(sandbox.lease.name)["State"]["Pid"]
            sandbox.lease.sandbox.kill()
            ended = eventually(lambda: sandbox.lease.sandbox.wait(10), "the driver reports the end")
            assert ended.exit_code == 137
            assert not Path(f"/proc/{pid}").exists()
    finally:
        bench.close()


@pytest.mark.alone
@pytest.mark.thorough
@pytest.mark.parametrize("bench", ways("docker-runc"), indirect=True)
def test_engine_time_out_on_a_starved_process_is_no_outage(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program starves the first process, so the end has the reason for which the container was to be killed."""
    with launched(bench, 0.1) as sandbox:
        starved(sandbox)
        with monkeypatch.context() as patch:
            patch.setattr(docker_sandbox, "kill_all", lambda *_, **__: False)
            patch.setattr(Engine, "lift_cpu", lambda *_: None)
            sandbox.lease.sandbox.kill()  # as a rule it lives on, and the engine gives up after 12 s
        assert killed(sandbox, 10) is not None


RING = """
import os
for _ in range(8):
    if os.fork() == 0:
        while True:
            if os.fork(): os._exit(0)
while True: pass
"""


@pytest.fixture(params=["", "unified"])
def hierarchy(request: pytest.FixtureRequest) -> Path:
    """This host's cgroups, and on a hybrid host those of version 2 by themselves."""
    root: Path = CGROUPS / request.param
    if request.param and not (root / "cgroup.kill").parent.is_dir():
        pytest.skip("this host mounts one version of cgroups")
    return root


@pytest.mark.parametrize("atomic", [True, False], ids=["at once", "one by one"])
def test_forking_processes_do_not_escape_the_kill(
    hierarchy: Path, monkeypatch: pytest.MonkeyPatch, atomic: bool
) -> None:
    """Processes are forked while others are killed; also where the kernel has no `cgroup.kill`."""
    name = f"test-{secrets.token_hex(6)}"
    base = hierarchy if cgroups.is_unified(hierarchy) else hierarchy / "freezer"
    place = base / cgroups.OURS / name
    place.mkdir(parents=True)
    if not atomic:
        write = killing._write
        monkeypatch.setattr(killing, "_write", lambda path, value: path.name != "cgroup.kill" and write(path, value))
    try:
        program = f"open({str(place / 'cgroup.procs')!r}, 'w').write('0')\n{RING}"
        with subprocess.Popen([sys.executable, "-S", "-c", program]) as ring:
            eventually(lambda: len(killing._pids(place)) > 8, "the ring turns")
            assert killing.kill_all(hierarchy, name, 20)
            assert ring.wait(60) == -9
        assert killing._pids(place) == []
    finally:
        assert killing.kill_all(hierarchy, name, 20)
        eventually(lambda: _is_removed(place), "the cgroup is empty")


def _is_removed(place: Path) -> bool:
    try:
        place.rmdir()
    except OSError:
        return False
    return True
