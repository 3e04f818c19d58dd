"""Driver ``oci`` on its own: refusals, counters after the end, and clean-up after a killed worker."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator import metrics
from orchestrator.environments import load_environments
from orchestrator.errors import EnvironmentUnavailable, RuntimeUnavailable, WeakContainer
from orchestrator.host import oci
from orchestrator.host.rootfs import Rootfs, prune, unpacked
from orchestrator.settings import Settings
from tests.builders.sandboxes.sandboxes import bench_for
from tests.harness import ROOT, Stack, Way, eventually
from tests.hostile.sandbox import Bench, Sandbox
from worker.agent.frames import FromAgent
from worker.counters import Ended
from worker.drivers.oci import sandbox as sandbox_module
from worker.drivers.oci.config import oci_config
from worker.drivers.oci.driver import OciDriver
from worker.drivers.oci.sandbox import OciSandbox
from worker.pool.launcher import Lease

PYTHON = load_environments([ROOT / "sandbox_image" / "environments"])["python"]
CGROUPS = Path("/sys/fs/cgroup")
WORKER = "test-oci"


@pytest.fixture(params=["oci-crun", "oci-runc"])
def bench(
    request: pytest.FixtureRequest, images: Path, need_runtime: Callable[..., None], tmp_path: Path
) -> Iterator[Bench]:
    with bench_for(Way(request.param), tmp_path, images, need_runtime) as made:
        yield made


def launch(bench: Bench) -> Lease:
    return bench.launcher.launch(PYTHON, "standard", PYTHON.defaults)


def traces(bench: Bench, name: str) -> list[object]:
    """The remains of a container."""
    state = (bench.settings.oci_path / "runtimes").glob(f"*/{name}")
    return [*_cgroups_of(name), *state, *bench.driver.owned(), *_runtimes_of(name)]


def _cgroups_of(name: str) -> list[Path]:
    return [path for pattern in ("*/mayfly", "mayfly") for path in CGROUPS.glob(f"{pattern}/{name}")]


def _processes_of(name: str) -> dict[int, bool]:
    """Every process in a container, and whether it is the first."""
    pids = {int(pid) for path in _cgroups_of(name) for pid in (path / "cgroup.procs").read_text().split()}
    found = {}
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):  # gone meanwhile
            continue
        found[pid] = "\t1\n" in re.findall(r"NSpid:.*\n", status)[0]
    return found


def _runtimes_of(name: str) -> list[int]:
    """Processes of a runtime that look after a container."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # ended meanwhile
            continue
        if name.encode() in words:
            found.append(int(path.parent.name))
    return found


def test_containers_are_listed_while_directories_of_other_workers_go(bench: Bench) -> None:
    """The reaper of one worker lists containers while another reaper removes what a dead worker left."""
    bundles = bench.settings.oci_path / "bundles"
    removed = threading.Event()

    def churn() -> None:
        try:
            for number in range(2000):
                (bundles / f"dead-{number % 7}" / "container").mkdir(parents=True)
                shutil.rmtree(bundles / f"dead-{number % 7}")
        finally:
            removed.set()

    with ThreadPoolExecutor(1) as pool:
        churning = pool.submit(churn)
        while not removed.is_set():
            bench.driver.owned()
        churning.result()
    assert bench.driver.owned() == []


def edit(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Another value at a dotted path of ``config.json``."""

    def change(config: dict[str, Any]) -> None:
        *above, last = path.split(".")
        for key in above:
            config = config[key]
        config[last] = value

    return change


def drop(kind: str) -> Callable[[dict[str, Any]], None]:
    """Without a namespace of its own."""

    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != kind]

    return change


def mount(destination: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    """Another option of a mount."""

    def change(config: dict[str, Any]) -> None:
        (found,) = (one for one in config["mounts"] if one["destination"] == destination)
        assert old in found["options"]
        found["options"] = [new if option == old else option for option in found["options"]]

    return change


MIB = 2**20
WEAKENED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "memory": (edit("linux.resources.memory", {"limit": 1024 * MIB, "swap": 1024 * MIB}), r"memory\."),
    "cpu": (edit("linux.resources.cpu", {"quota": 900_000, "period": 100_000}), r"cpu\."),
    "pids": (edit("linux.resources.pids", {"limit": 10_000}), r"pids\.max"),
    "another cgroup": (edit("linux.cgroupsPath", "/mayfly-elsewhere/one"), "cgroup"),
    "network": (drop("network"), "net namespace"),
    "pid": (drop("pid"), "pid namespace"),
    "ipc": (drop("ipc"), "ipc namespace"),
    "uts": (drop("uts"), "uts namespace"),
    "cgroup": (drop("cgroup"), "cgroup namespace"),
    "seccomp": (edit("linux.seccomp", None), "seccomp"),
    "no new privileges": (edit("process.noNewPrivileges", False), "no_new_privs"),
    "capabilities": (edit("process.capabilities.bounding", ["CAP_SYS_ADMIN"]), "capabilities"),
    "groups": (edit("process.user.additionalGids", [0]), "groups"),
    "user": (edit("process.user.gid", 12345), "gid"),
    "inputs": (mount("/inputs", "ro", "rw"), "mount /inputs"),
    "work": (mount("/work", "nodev", "dev"), "mount /work"),
    "tmp": (mount("/tmp", "noexec", "exec"), "mount /tmp"),
    "size": (mount("/output", f"size={64 * MIB}", f"size={128 * MIB}"), "mount /output"),
    "limits": (edit("process.rlimits", []), "limit nofile"),
}


@pytest.mark.parametrize("what", WEAKENED)
def test_weaker_container_is_never_used(bench: Bench, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    change, named = WEAKENED[what]
    names = []

    def weak(*arguments: Any) -> dict[str, Any]:
        config = oci_config(*arguments)
        if what == "uts":
            del config["hostname"]  # which would be the host's
        change(config)
        names.append(arguments[0].name)
        return json.loads(json.dumps(config))  # type: ignore[no-any-return]

    monkeypatch.setattr(sandbox_module, "oci_config", weak)
    with pytest.raises(WeakContainer, match=named):
        launch(bench)
    assert traces(bench, names[0]) == []


FILLS_MEMORY = """
with open('/proc/self/oom_score_adj', 'w') as file: file.write('500')
print(1, flush=True)
with open('/work/full', 'wb') as file:
    while True: file.write(bytes(2**20))
"""


def test_cgroup_stays_until_its_counters_were_read(bench: Bench) -> None:
    """Also when the kernel kills the agent itself, and with it the whole sandbox."""
    lease = launch(bench)
    lease.sandbox.adjust(PYTHON.defaults.model_copy(update={"memory_bytes": 48 * MIB}))
    Sandbox(lease, bench.driver).begin(FILLS_MEMORY)
    while not any(frame.kind is FromAgent.STDOUT for frame in lease.frames(20) or []):
        pass
    (agent,) = (pid for pid, first in _processes_of(lease.name).items() if first)
    Path(f"/proc/{agent}/oom_score_adj").write_text("1000")
    while lease.frames(20) is not None:
        pass
    assert _cgroups_of(lease.name)
    assert lease.sandbox.wait(20) == Ended(exit_code=137, oom_killed=True)
    assert lease.sandbox.counters().oom_events > 0
    bench.launcher.destroy(lease)
    assert traces(bench, lease.name) == []


LAST_WORDS = """
import os
while not os.path.exists('/inputs/go'): os.sched_yield()
print('last words')
"""


def test_frames_sent_before_the_end_are_read_afterwards(bench: Bench) -> None:
    """Also by a runtime that copies the stream, and has no time left for that."""
    lease = launch(bench)
    Sandbox(lease, bench.driver).begin(LAST_WORDS, leave=True)
    assert [frame.kind for frame in lease.frames(20) or []] == [FromAgent.RUNNING]
    runtimes = _runtimes_of(lease.name)
    for pid in runtimes:
        os.kill(pid, signal.SIGSTOP)
    (lease.host_dir.inputs / "go").touch()
    eventually(lambda: not _processes_of(lease.name), "the agent has exited")
    received = lease.frames(0.2)
    for pid in runtimes:
        os.kill(pid, signal.SIGCONT)
    while received is not None and FromAgent.EXIT not in [frame.kind for frame in received]:
        more = lease.frames(20)
        assert more is not None, received
        received += more
    assert [frame.payload for frame in received or [] if frame.kind is FromAgent.STDOUT] == [b"last words\n"]
    assert lease.sandbox.wait(20) == Ended(exit_code=0, oom_killed=False)
    bench.launcher.destroy(lease)


@pytest.mark.parametrize("bench", ["oci-crun"], indirect=True)
def test_the_runtime_tidies_up_when_the_container_is_destroyed(bench: Bench) -> None:
    """Cleanup waits until then, so that its CPU time does not delay the result."""
    lease = launch(bench)
    lease.sandbox.kill()
    assert lease.sandbox.wait(20) == Ended(exit_code=137, oom_killed=False)
    (run,) = _runtimes_of(lease.name)
    assert psutil.Process(run).status() == psutil.STATUS_STOPPED
    assert _cgroups_of(lease.name)
    bench.launcher.destroy(lease)
    assert traces(bench, lease.name) == []


def test_a_killed_sandbox_is_not_out_of_memory(bench: Bench) -> None:
    lease = launch(bench)
    lease.sandbox.kill()
    assert lease.frames(20) is None
    assert lease.sandbox.wait(20) == Ended(exit_code=137, oom_killed=False)
    bench.launcher.destroy(lease)
    assert traces(bench, lease.name) == []


def test_killed_runtime_leaves_nothing(bench: Bench) -> None:
    """The worker removes what the runtime would have removed."""
    for ended in (False, True):
        lease = launch(bench)
        if ended:
            lease.sandbox.kill()
            assert lease.frames(20) is None
        for pid in _runtimes_of(lease.name):
            os.kill(pid, signal.SIGKILL)
        assert _cgroups_of(lease.name)
        bench.launcher.destroy(lease)
        assert traces(bench, lease.name) == []


def test_runtime_killed_during_start_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    start = OciSandbox._start_runtime
    kills: list[threading.Timer] = []
    names: list[str] = []
    pauses = iter((0.0, 0.002, 0.004, 0.006, 0.009, 0.013, 0.02))

    def started(sandbox: OciSandbox) -> None:
        start(sandbox)
        assert sandbox._run is not None
        kills.append(threading.Timer(next(pauses), sandbox._run.send_signal, [signal.SIGKILL]))
        kills[-1].start()
        names.append(sandbox.profile.name)

    monkeypatch.setattr(OciSandbox, "_start_runtime", started)
    for _ in range(7):
        with suppress(RuntimeUnavailable):
            bench.launcher.destroy(launch(bench))  # it was killed too late
        kills[-1].join()
        assert traces(bench, names[-1]) == []


def test_concurrent_reapers_do_not_block_each_other(bench: Bench) -> None:
    leases = [launch(bench) for _ in range(3)]
    others = [OciDriver(bench.settings, f"other-{number}") for number in range(3)]

    def reap(driver: OciDriver) -> None:
        for container in driver.owned():
            container.destroy()

    with ThreadPoolExecutor(len(others)) as threads:
        assert list(threads.map(reap, others)) == [None] * len(others)
    assert bench.driver.owned() == []
    for lease in leases:
        bench.launcher.destroy(lease)
        assert traces(bench, lease.name) == []


def test_worker_presumed_dead_can_launch_again(bench: Bench) -> None:
    lease = launch(bench)
    for container in OciDriver(bench.settings, "another").owned():
        container.destroy()
    assert list((bench.settings.oci_path / "bundles").glob("test-*")) == []
    bench.launcher.destroy(lease)
    bench.launcher.destroy(launch(bench))


def test_killed_worker_leaves_no_running_process(own_stack: Callable[..., Stack]) -> None:
    """Without a worker to clean up, the kernel wakes each runtime, which removes its own container."""
    stack = own_stack(driver="oci").start()
    code = "import time; print(1, flush=True); time.sleep(200)"
    id = stack.submit(environment="python", code=code, limits={"wall_seconds": 250}).json()["id"]
    eventually(lambda: stack.show(id)["stdout"], "the program runs")
    names = eventually(lambda: _held(stack), "the pool is full again")  # its runtimes wait to be let on
    stack.workers[0].stop(signal.SIGKILL)
    eventually(lambda: not _all(names), "the runtimes have ended")
    assert [path for name in names for path in _cgroups_of(name)] == []
    stack.client.post(f"/api/v1/executions/{id}/cancel")


def test_no_cgroup_accumulates_outside_the_workers_view(own_stack: Callable[..., Stack]) -> None:
    """On a host with both versions crun makes an ordinary directory for each container in version 2's place."""
    stack = own_stack(driver="oci", standard_runtime="crun").start()
    hidden = Path(f"/proc/{stack.workers[0].pid}/root/sys/fs/cgroup/unified/mayfly")
    [worker] = stack.fleet()

    def there() -> set[str]:
        return {path.name for path in hidden.glob(f"mayfly-{worker['id']}-*")}

    for _ in range(3):
        assert stack.run(code="print(1)")["state"] == "succeeded"
    eventually(lambda: there() <= set(stack.containers()), "only live containers have cgroups")
    assert bool(there()) == (oci.unified_mount(CGROUPS) is not None)


def _held(stack: Stack) -> list[str]:
    """The names of two containers whose runtimes are stopped."""
    names = stack.containers()
    try:
        states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in _all(names)]
    except OSError:  # one that was just being started
        return []
    return names if len(names) == 2 and states == ["T", "T"] else []


def _all(names: list[str]) -> list[int]:
    return [pid for name in names for pid in _runtimes_of(name)]


def test_unused_images_are_removed(tmp_path: Path) -> None:
    directory = tmp_path / "rootfs"
    places = {name: directory / name for name in ("old", ".unpacking-killed", "used", "new")}
    for place in places.values():
        (place / "root").mkdir(parents=True)
        (place / "root" / "file").touch()
    for name in ("old", ".unpacking-killed", "used"):
        os.utime(places[name], (1, 1))
    assert Rootfs(places["used"] / "root", {}).used()
    assert prune(directory) == (2, ())
    assert sorted(path.name for path in directory.iterdir()) == ["new", "used"]
    assert not Rootfs(places["old"] / "root", {}).used()
    assert prune(tmp_path / "none") == (0, ())


def test_worker_starts_beside_an_image_that_cannot_be_removed(settings: Settings) -> None:
    """A mount point below it: the kernel refuses its removal. The next removal makes up for it."""
    settings = settings.model_copy(update={"driver": "oci"})
    directory = settings.oci_path / "rootfs"
    for name in ("a", "b", "c"):
        (directory / name / "root").mkdir(parents=True)
        os.utime(directory / name, (1, 1))
    subprocess.run(["mount", "-t", "tmpfs", "none", directory / "b" / "root"], check=True)
    failures = metrics.engine_errors.labels("prune")
    before = failures._value.get()
    try:
        OciDriver(settings, WORKER)
        assert [path.name for path in directory.iterdir()] == [".removing-b"]
        assert failures._value.get() - before == 1
        os.utime(directory / ".removing-b", (1, 1))
        assert prune(directory) == (0, (".removing-b",))
    finally:
        for place in directory.glob("*b/root"):
            subprocess.run(["umount", place], check=True)
    os.utime(directory / ".removing-b", (1, 1))
    assert prune(directory) == (1, ())


def test_image_with_a_wrong_digest_is_not_unpacked(images: Path, tmp_path: Path) -> None:
    id = json.loads((images / "bash.json").read_text())["image_id"]
    with pytest.raises(EnvironmentUnavailable, match="is not the image"):
        unpacked(tmp_path / "rootfs", images / "bash.tar", "sha256:" + "0" * 64)
    other = tmp_path / "bash.tar"
    with tarfile.open(images / "bash.tar") as source, tarfile.open(other, "w") as target:
        for member in source:
            content = source.extractfile(member)
            assert content is not None
            data = content.read()
            if member.name.endswith(".tar"):
                data = data.replace(b"mayfly", b"mayfmy")
            target.addfile(member, io.BytesIO(data))
    with pytest.raises(EnvironmentUnavailable, match="is not the image"):
        unpacked(tmp_path / "rootfs", other, id)
    with pytest.raises(EnvironmentUnavailable, match="make images"):
        unpacked(tmp_path / "rootfs", tmp_path / "none.tar", id)
    assert list((tmp_path / "rootfs").iterdir()) == []
    with ThreadPoolExecutor(3) as threads:  # as workers that start at once
        roots = list(threads.map(lambda _: unpacked(tmp_path / "rootfs", images / "bash.tar", id), range(3)))
    assert len({root.path for root in roots}) == len(list((tmp_path / "rootfs").iterdir())) == 1
    assert (roots[0].path / "usr/bin/bash").stat().st_uid == 0
    assert roots[0].process["WorkingDir"] == "/work"


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        ("exit 3", "exit code 3"),
        ("echo it cannot be done >&2; exit 1", "it cannot be done"),
    ],
)
def test_broken_runtime_is_reported(tmp_path: Path, script: str, printed: str) -> None:
    path = tmp_path / "runc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    assert printed in oci.why_not(oci.Runtime("runc", str(path), (str(path),)))
    path.chmod(0o644)
    assert "cannot be started" in oci.why_not(oci.Runtime("runc", str(path), (str(path),)))


def test_driver_without_working_runtime_is_unavailable(tmp_path: Path) -> None:
    driver = OciDriver(Settings(oci_dir=tmp_path, driver="oci", standard_runtime="no-such-runtime"), WORKER)
    with pytest.raises(RuntimeUnavailable, match="mayfly doctor"):
        driver.runtimes()
