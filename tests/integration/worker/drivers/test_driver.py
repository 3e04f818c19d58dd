"""Each driver with each runtime of this host, and the refusal of weaker containers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest

from orchestrator.environments import load_environments
from orchestrator.errors import EnvironmentUnavailable, RuntimeUnavailable, WeakContainer
from orchestrator.models import Limits
from orchestrator.settings import Settings
from tests.harness import ROOT, WAYS, Way, free_uids, share_unpacked
from tests.hostile.sandbox import Sandbox
from tests.selection import EACH_WAY
from worker.agent.frames import FromAgent, ToAgent, encode
from worker.counters import Ended
from worker.drivers.docker.config import container_config
from worker.host import audit, cgroups
from worker.host.cgroups import Caps
from worker.host.hostdirs import HostDirs
from worker.pool.launcher import Launcher, Lease
from worker.process import driver_of
from worker.sandbox.profile import SandboxProfile, pids_limit
from worker.upkeep.reaper import reap

ENVIRONMENTS = load_environments([ROOT / "sandbox_image" / "environments", ROOT / "tests" / "environments"])
PYTHON = ENVIRONMENTS["python"]
WORKER = "test-driver"


class Bench:
    """A driver and what belongs to it, under an installation of its own."""

    def __init__(self, directory: Path, images: Path, way: Way) -> None:
        self.isolation = way.isolation
        self.settings = Settings(
            images_dir=images,
            installation=f"test-{secrets.token_hex(6)}",
            oci_dir=directory.with_name(f"{directory.name}-oci"),
            standard_runtime=way.runtime if way.isolation == "standard" else "runc",
            hardened_runtime=way.runtime if way.isolation == "hardened" else "no-such-runtime",
            driver=way.driver,
        )
        share_unpacked(self.settings.oci_path)
        self.driver: Any = driver_of(self.settings, WORKER)
        self.host_dirs = HostDirs(directory, WORKER, free_uids(), 100)
        self.directory = directory
        self.launcher = Launcher(self.driver, self.host_dirs, ENVIRONMENTS, WORKER)

    def launch(self, limits: Limits = PYTHON.defaults) -> Lease:
        return self.launcher.launch(PYTHON, self.isolation, limits)

    def nothing_is_left(self) -> bool:
        return not self.driver.owned() and not list(self.directory.iterdir()) and not self.launcher.live


@pytest.fixture
def make_bench(images: Path, need_runtime: Callable[..., None], tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(name: str) -> Bench:
        way = Way(name)
        need_runtime(way.runtime, way.driver)
        made.append(Bench(tmp_path / str(len(made)), images, way))
        return made[-1]

    yield make
    for one in made:
        reap(one.driver, one.launcher, one.host_dirs, WORKER, set)
        assert one.nothing_is_left()


@pytest.fixture(params=EACH_WAY)
def every(make_bench: Callable[[str], Bench], request: pytest.FixtureRequest) -> Callable[[], Bench]:
    """A bench for each driver and runtime."""
    return partial(make_bench, request.param)


@pytest.fixture
def bench(make_bench: Callable[[str], Bench]) -> Callable[[], Bench]:
    """The engine's usual runtime."""
    return partial(make_bench, "docker-runc")


def run(lease: Lease, code: str) -> dict[str, Any]:
    """The agent's report of the program's end."""
    found = reported(lease, code)
    assert found is not None, f"no exit frame came: {lease.sandbox.counters()}"
    return found


def reported(lease: Lease, code: str) -> dict[str, Any] | None:
    """As :func:`run`; none where the sandbox ended as a whole."""
    (lease.host_dir.inputs / "main.py").write_text(code)
    start = {
        "run": ["/usr/bin/python3", "/work/main.py"], "fork": True, "entrypoint": "/work/main.py", "args": [],
        "env": PYTHON.env, "compile": None, "wall_seconds": 5, "cpu_seconds": 5, "cpu_cores": 1, "artifacts": [],
        "artifact_bytes": 0, "artifact_files": 0, "denial_log": "", "copy_bytes": 2**20,
    }  # fmt: skip
    lease.sandbox.send(encode(ToAgent.START, start) + encode(ToAgent.STDIN), 5)
    while (frames := lease.frames(20)) is not None:
        for frame in frames:
            if frame.kind is FromAgent.EXIT:
                return frame.json()
    return None


def test_container_runs_reports_counters_and_is_removed(every: Callable[[], Bench]) -> None:
    one = every()
    lease = one.launch()
    assert [owned.name for owned in one.driver.owned()] == [lease.name]
    printed = run(lease, "x = bytearray(30 * 2**20)\nraise SystemExit(9)")
    assert printed["exit_code"] == 9
    counters = lease.sandbox.counters()
    assert counters.cpu_seconds is not None
    assert 0 < counters.cpu_seconds < 15
    assert counters.peak_memory_bytes is not None
    assert 30 * 2**20 < counters.peak_memory_bytes < 512 * 2**20
    assert lease.sandbox.wait(0.2) is None  # it waits for our word
    lease.sandbox.send(encode(ToAgent.BYE), 5)
    ended = lease.sandbox.wait(60)
    assert ended is not None
    assert (ended.exit_code, ended.oom_killed) == (9, False)
    one.launcher.destroy(lease)
    one.launcher.destroy(lease)  # safe at any point
    assert one.nothing_is_left()


def test_exit_code_comes_from_the_engine_where_the_kernel_has_none(bench: Callable[..., Bench]) -> None:
    one = bench()
    lease = one.launch()
    lease.sandbox._watch = None  # type: ignore[attr-defined]  # as on an older kernel
    run(lease, "raise SystemExit(4)")
    assert lease.sandbox.wait(0.5) is None
    lease.sandbox.send(encode(ToAgent.BYE), 5)
    ended = lease.sandbox.wait(60)
    assert ended is not None
    assert ended.exit_code == 4
    one.launcher.destroy(lease)


def test_engine_reports_killed_container(every: Callable[[], Bench]) -> None:
    one = every()
    lease = one.launch()
    lease.sandbox.kill()
    ended = lease.sandbox.wait(60)
    assert ended is not None
    assert ended.exit_code == 137
    lease.sandbox.kill()  # gone already is fine
    one.launcher.destroy(lease)


FILLS_MEMORY = """
with open('/proc/self/oom_score_adj', 'w') as file: file.write('0')
with open('/work/full', 'wb') as file:
    while True: file.write(bytes(2**20))
"""


@pytest.mark.parametrize("log", ["/dev/kmsg", "/nowhere"], ids=["log", "control"])
def test_kernel_counter_reveals_oom_kill_missed_by_engine(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    """An OOM kill of the whole sandbox is found in the kernel's log."""
    one = bench()
    lease = one.launch()
    lease.sandbox.adjust(PYTHON.defaults.model_copy(update={"memory_bytes": 48 * 2**20}))
    inspect = docker.APIClient.inspect_container

    def missing(self: docker.APIClient, name: str) -> Any:
        made = inspect(self, name)
        return {**made, "State": {**made["State"], "OOMKilled": False}}

    pid = inspect(one.driver.engine.api(), lease.name)["State"]["Pid"]
    Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
    monkeypatch.setattr(docker.APIClient, "inspect_container", missing)
    monkeypatch.setattr(audit, "KERNEL_LOG", Path(log))
    Sandbox(lease, one.driver).begin(FILLS_MEMORY)
    while lease.frames(20) is not None:
        pass
    assert lease.sandbox.wait(60) == Ended(exit_code=137, oom_killed=log == "/dev/kmsg")
    one.launcher.destroy(lease)


def test_killed_container_is_not_reported_as_out_of_memory(bench: Callable[..., Bench]) -> None:
    """Processes write forged lines into the kernel's log."""
    one = bench()
    lease = one.launch()
    id = one.driver.engine.api().inspect_container(lease.name)["Id"]
    reported = (
        f"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/docker/{id},task_memcg=/docker/{id},pid=1"
    )
    Path("/dev/kmsg").write_text(f"{reported}\n")
    lease.sandbox.kill()
    assert lease.sandbox.wait(60) == Ended(exit_code=137, oom_killed=False)
    one.launcher.destroy(lease)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "docker-runsc"])  # runsc has no `update`
def test_limits_of_a_waiting_container_are_set_anew(make_bench: Callable[[str], Bench], way: str) -> None:
    one = make_bench(way)
    lease = one.launch()
    limits = PYTHON.defaults.model_copy(update={"memory_bytes": 64 * 2**20, "processes": 5, "cpu_cores": 0.5})
    lease.sandbox.adjust(limits)
    if one.driver.name == "docker":
        host = one.driver.engine.api().inspect_container(lease.name)["HostConfig"]
        assert (host["Memory"], host["MemorySwap"]) == (64 * 2**20, 64 * 2**20)
        assert (host["NanoCpus"], host["PidsLimit"]) == (500_000_000, pids_limit(one.isolation, limits))
    else:
        caps = Caps.of(64 * 2**20, 0.5, pids_limit(one.isolation, limits))
        assert cgroups.weaker_caps(Path("/sys/fs/cgroup"), lease.name, caps) == []
        assert cgroups.weaker_caps(Path("/sys/fs/cgroup"), lease.name, caps._replace(pids=3)) == ["pids.max"]
    if one.isolation == "standard":
        printed = reported(lease, "x = bytearray(200 * 2**20)")
        if printed is None:  # where the killed program frees its memory late, the kernel kills the agent, too
            ended = lease.sandbox.wait(60)
            assert ended is not None
            assert ended.exit_code == 137
            assert ended.oom_killed or lease.sandbox.counters().oom_events
        else:
            assert (printed["exit_code"], printed["signal"]) == (137, 9)
            assert lease.sandbox.counters().oom_events >= 1
    one.launcher.destroy(lease)


def test_missing_limits_are_detected(make_bench: Callable[[str], Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    limits = PYTHON.defaults.model_copy(update={"memory_bytes": 64 * 2**20})
    one = make_bench("docker-runc")
    lease = one.launch()
    update = type(one.driver.engine.api())._post_json
    monkeypatch.setattr(
        type(one.driver.engine.api()), "_post_json", lambda api, url, data: update(api, url, {**data, "PidsLimit": 500})
    )
    with pytest.raises(WeakContainer, match=r"PidsLimit\."):
        lease.sandbox.adjust(limits)
    one.launcher.destroy(lease)
    other = make_bench("oci-crun")
    lease = other.launch()
    monkeypatch.setattr("worker.host.cgroups.set_caps", lambda *_: None)
    with pytest.raises(WeakContainer, match="memory"):
        lease.sandbox.adjust(limits)
    other.launcher.destroy(lease)


def test_a_workers_death_ends_its_sandboxes(every: Callable[[], Bench]) -> None:
    one = every()
    lease = one.launch()
    stream: Any = lease.sandbox
    stream.stream.close()  # what the kernel does for a process that dies
    if one.driver.name == "docker":
        assert one.driver.engine.api().wait(lease.name, timeout=60)["StatusCode"] == 125
    else:
        assert lease.sandbox.wait(60) == Ended(exit_code=125, oom_killed=False)
    one.launcher.destroy(lease)


WEAKENED: dict[str, dict[str, Any]] = {
    "seccomp": {"SecurityOpt": ["no-new-privileges", "seccomp=unconfined"]},
    "no_new_privs": {"SecurityOpt": None},
    "capabilities": {"CapDrop": None, "CapAdd": ["SYS_ADMIN"]},
}


@pytest.mark.parametrize("what", WEAKENED)
def test_weaker_container_is_never_used(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def weak(profile: SandboxProfile) -> dict[str, Any]:
        config = container_config(profile)
        host = config["HostConfig"]
        if what == "no_new_privs":
            host["SecurityOpt"] = host["SecurityOpt"][1:]
        else:
            host |= {key: value for key, value in WEAKENED[what].items() if value is not None}
        return config

    monkeypatch.setattr(
        "worker.drivers.docker.sandbox.container_config", weak
    )  # asks the engine for less than the profile
    one = bench()
    with pytest.raises(WeakContainer, match=r"CapAdd|capabilities" if what == "capabilities" else what):
        one.launch()
    assert one.nothing_is_left()


def test_a_container_of_another_user_is_never_used(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_root(profile: SandboxProfile) -> dict[str, Any]:
        return {**container_config(profile), "User": "0:0"}

    monkeypatch.setattr("worker.drivers.docker.sandbox.container_config", as_root)
    one = bench()
    with pytest.raises(RuntimeUnavailable, match=r"uid|ended before its agent was ready"):
        one.launch()
    assert one.nothing_is_left()


def test_engine_failure_becomes_runtime_unavailable(bench: Callable[..., Bench], tmp_path: Path) -> None:
    one = bench()
    with pytest.raises(RuntimeUnavailable, match="no runtime for isolation 'hardened'"):
        one.launcher.launch(PYTHON, "hardened", PYTHON.defaults)
    one.driver._images = tmp_path
    with pytest.raises(EnvironmentUnavailable, match="make images"):
        one.driver.image(PYTHON)
    (tmp_path / "python.json").write_text(json.dumps({"image_id": "sha256:" + "0" * 64, "size_bytes": 1}))
    (tmp_path / "python.tar").write_bytes(b"no archive")
    with pytest.raises(RuntimeUnavailable):
        one.driver.image(PYTHON)


def test_reaper_removes_exactly_the_orphaned_containers(every: Callable[[], Bench]) -> None:
    one, other = every(), every()
    mine, strange = one.launch(), other.launch()
    assert reap(one.driver, one.launcher, one.host_dirs, WORKER, lambda: {WORKER}) == 0
    one.launcher.live.discard(mine.name)  # as if this worker had been started anew under its name
    one.host_dirs.mine.difference_update(path.name for path in mine.host_dir.paths)
    both = {WORKER, "another"}
    assert reap(one.driver, one.launcher, one.host_dirs, "another", lambda: both) == 0  # its owner is alive
    assert reap(one.driver, one.launcher, one.host_dirs, "another", lambda: {"another"}) == 1 + len(mine.host_dir.paths)
    assert one.nothing_is_left()
    assert [owned.name for owned in other.driver.owned()] == [strange.name]  # another installation's
    mine.sandbox.destroy()  # its owner does not know
    other.launcher.destroy(strange)
