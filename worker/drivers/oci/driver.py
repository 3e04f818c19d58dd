"""Containers by an OCI runtime directly: crun, runc or gVisor's runsc, with no daemon in between.

Theory of operation
===================
``<runtime> run`` is a child of this process and the parent of the sandbox's first process: it waits for that, removes
the cgroup and its own state, and exits with its code. Both ends of the agent's pipe are one socket, whose other end is
ours: when this process dies, the agent sees the end of its input and ends everything.

*Nothing is removed before it was read.* While the sandbox lives, its ``run`` process is stopped (SIGSTOP), so that the
cgroup stays when the kernel has ended the sandbox, until :meth:`OciDriver.destroy` lets it go on (gVisor's earlier,
when its exit code is asked for). It is in a process group of its own in our session: when this process dies, the
kernel itself sends SIGHUP and SIGCONT to that group (POSIX, "orphaned process groups"), and it tidies up as ever. Only
runc may not be stopped, since it stands between the agent and us and copies; it is told to keep the container instead,
which costs one more call.

*On disk*, under the worker's name so that everybody knows whose it is: ``bundles/<worker>/<container>/`` with
``config.json``, ``runtime`` (the runtime's name) and ``root``, a mount point; ``rootfs/`` has the unpacked images,
``runtimes/`` what each runtime notes down for itself.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from orchestrator import metrics
from orchestrator.environments import Environment
from orchestrator.errors import EnvironmentUnavailable, RuntimeUnavailable, WeakContainer
from orchestrator.host import oci
from orchestrator.host.posture import EngineFacts, host_facts
from orchestrator.models import Isolation, Limits
from orchestrator.settings import Settings
from worker.counters import KILLED, Ended
from worker.drivers.base import Image, Owned, Sandbox
from worker.drivers.oci.config import caps_of, oci_config, rendered
from worker.drivers.oci.rootfs import Rootfs, prune, release, unpacked
from worker.drivers.oci.sandbox import OciSandbox
from worker.drivers.oci.startup_cache import CompiledFilter, SealedProgram
from worker.host import cgroups, killing
from worker.sandbox.profile import SandboxProfile, pids_limit

START_SECONDS = 30.0
END_SECONDS = 10.0
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
log = structlog.get_logger()


class OciDriver:
    """The driver for OCI runtimes."""

    name = "oci"

    def __init__(self, settings: Settings, worker: str) -> None:
        self._settings = settings
        self._cgroup_root = settings.cgroup_root
        self._rootfs = settings.oci_path / "rootfs"
        self._all_bundles = settings.oci_path / "bundles"
        self._bundles = self._all_bundles / worker
        self._bundles.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _translated("prune"):
            prune(self._rootfs)
        self._lock = threading.Lock()
        self._usable: dict[str, oci.Runtime] = {}
        self._programs: dict[str, SealedProgram] = {}
        self._filters: dict[str, CompiledFilter] = {}
        self._images: dict[str, Rootfs] = {}
        self._sandboxes: dict[str, OciSandbox] = {}

    def runtimes(self) -> dict[Isolation, str]:
        offered: dict[Isolation, str] = {}
        reasons = []
        for isolation, candidates in oci.found(self._settings).items():
            for runtime in candidates:
                if runtime.name not in self._usable:
                    reason = oci.why_not(runtime)
                    if reason:
                        reasons.append(f"{runtime.name}: {reason}")
                        continue
                    self._usable[runtime.name] = runtime
                    if isolation == "standard":  # gVisor's runs from a program of its own, and has no use for a filter
                        self._programs[runtime.name] = SealedProgram(runtime.path)
                    self._filters[runtime.name] = CompiledFilter(runtime, oci.state_of(self._settings, runtime.name))
                offered[isolation] = runtime.name
                break
        if "standard" not in offered:
            log.warning("runtimes.unusable", reasons=reasons)
            raise RuntimeUnavailable("No OCI runtime works on this host; see `mayfly doctor`.")
        return offered

    def places(self) -> dict[str, Path]:
        return {"containers": self._all_bundles}

    def version(self) -> str:
        versions = [f"{runtime.name} {runtime.version()}" for runtime in self._usable.values()]
        if not versions:
            raise RuntimeUnavailable("No OCI runtime works on this host; see `mayfly doctor`.")
        return ", ".join(versions)

    def facts(self) -> EngineFacts:
        return host_facts(self._settings)

    def image(self, environment: Environment) -> Image:
        archive = self._settings.images_path / f"{environment.name}.tar"
        try:
            built = json.loads(archive.with_suffix(".json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise EnvironmentUnavailable(
                f"No image of environment {environment.name!r} in {archive.parent}; build it with `make images`."
            ) from error
        known = self._images.get(built["image_id"])
        if known is None or not known.used():
            with self._lock:
                self._images[built["image_id"]] = unpacked(self._rootfs, archive, built["image_id"])
        return Image(environment.name, built["image_id"], int(built["size_bytes"]))

    def launch(self, profile: SandboxProfile) -> OciSandbox:
        runtime, image = self._usable[profile.runtime], self._images[profile.image]
        bundle, filters = self._bundles / profile.name, self._filters[profile.runtime]
        with _translated("create"):
            self._bundles.mkdir(exist_ok=True, mode=0o700)  # others may have taken this worker for dead
            bundle.mkdir(mode=0o700)
            (bundle / "runtime").write_text(runtime.name, encoding="utf-8")
            config = oci_config(profile, bundle / "root", image.process, filters.annotations(profile))
            (bundle / "config.json").write_text(rendered(config), encoding="utf-8")
        with _translated("start"), image.own(bundle / "root"):
            sandbox = self._start(runtime, profile, bundle)
            self._sandboxes[profile.name] = sandbox
            pid = self._await_start(sandbox, bundle / "pid")
            sandbox.hold(pid)
            self._refuse_weaker(profile, pid)
            if profile.buffer_bytes:
                cgroups.bound_buffers(self._cgroup_root, profile.name, profile.buffer_bytes)
            filters.learn(profile)
        return sandbox

    def restore_cpu_weight(self, sandbox: Sandbox) -> None:
        with _translated("update"):
            cgroups.restore_cpu_weight(self._cgroup_root, sandbox.profile.name)

    def adjust(self, sandbox: Sandbox, limits: Limits) -> None:
        profile = sandbox.profile
        caps = cgroups.Caps.of(limits.memory_bytes, limits.cpu_cores, pids_limit(profile.isolation, limits))
        with _translated("update"):
            cgroups.set_caps(self._cgroup_root, profile.name, caps)
            if differs := cgroups.weaker_caps(self._cgroup_root, profile.name, caps):
                raise WeakContainer(f"The kernel did not apply the requested limits: {', '.join(differs)}.")

    def wait(self, sandbox: Sandbox, timeout_seconds: float) -> Ended | None:
        counted = sandbox.counters()  # the last that can be read
        code = sandbox.exit_code(timeout_seconds)
        if code is None:
            return None
        return Ended(exit_code=code, oom_killed=code == KILLED and counted.oom_events > 0)

    def kill(self, name: str) -> None:
        if sandbox := self._sandboxes.get(name):
            sandbox.kill()

    def destroy(self, name: str) -> None:
        sandbox = self._sandboxes.get(name)
        bundle: Path | None = self._bundles / name
        if sandbox is None:  # perhaps another worker's
            bundle = next((path for path in self._all_bundles.glob(f"*/{name}")), None)
        with _translated("remove"):
            if sandbox is not None:
                sandbox.close()
                sandbox.kill()
                if not sandbox.tidied(END_SECONDS) or sandbox.runtime.keeps:
                    self._delete(bundle, name)
                del self._sandboxes[name]
                sandbox.forget()
            elif bundle is not None:
                self._delete(bundle, name)
            if oci.unified_mount(self._cgroup_root) is None:  # on a hybrid host, crun makes a directory in its place
                _remove(self._cgroup_root / "unified" / cgroups.OURS / name)
            if bundle is not None:
                release(bundle / "root")
                _remove(bundle)
                if bundle.parent != self._bundles:
                    _remove_empty(bundle.parent)

    def owned(self) -> list[Owned]:
        return [Owned(path.name, path.parent.name) for path in self._all_bundles.glob("*/*")]

    def _start(self, runtime: oci.Runtime, profile: SandboxProfile, bundle: Path) -> OciSandbox:
        ours, theirs = socket.socketpair()
        errors, errors_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        program = self._programs.get(runtime.name)
        command = [program.path() if program and part == runtime.path else part for part in runtime.command]
        command += ["run", "--bundle", str(bundle), "--pid-file", str(bundle / "pid")]
        command += ["--keep", profile.name] if runtime.keeps else [profile.name]
        try:
            run = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=errors_end, cwd="/", process_group=0,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )  # fmt: skip
        except OSError:
            ours.close()
            os.close(errors)
            raise
        finally:
            theirs.close()
            os.close(errors_end)
        return OciSandbox(profile, runtime, run, ours, errors, self._cgroup_root)

    def _await_start(self, sandbox: OciSandbox, pid_file: Path) -> int:
        """The first process, once its agent has begun to speak."""
        if not sandbox.stream.begun(START_SECONDS):
            log.warning("runtime.failed", container=sandbox.profile.name, output=repr(sandbox.diagnostics))
            raise RuntimeUnavailable(f"The runtime {sandbox.profile.runtime} started no sandbox.")
        deadline = time.monotonic() + START_SECONDS
        while not pid_file.exists() or not (pid := pid_file.read_text(encoding="ascii")):
            if time.monotonic() > deadline:
                raise RuntimeUnavailable(f"The runtime {sandbox.profile.runtime} did not report its container.")
            time.sleep(0.001)  # runc writes it a moment after the start, and nothing announces it
        return int(pid)

    def _refuse_weaker(self, profile: SandboxProfile, pid: int) -> None:
        """Hold what the kernel shows of the container against what was asked for. Raises :class:`WeakContainer`."""
        differs = cgroups.weaker_caps(self._cgroup_root, profile.name, caps_of(profile))
        groups = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()
        mine = [line for line in groups if line.endswith(f"/{cgroups.OURS}/{profile.name}")]
        differs += [] if mine else ["cgroup"]
        if profile.isolation == "standard":  # gVisor's kernel has its own
            differs += [f"{name} namespace" for name in NAMESPACES if _shared(name, pid)]
        if differs:
            raise WeakContainer(f"The runtime made a container weaker than its profile: {', '.join(differs)}.")

    def _delete(self, bundle: Path | None, name: str) -> None:
        """Have the runtime remove what it holds. Raises :class:`RuntimeUnavailable` if it is not gone afterwards.

        One that was killed while it started knows nothing of what it had made by then: that goes behind its back.
        """
        runtime = oci.left(self._settings, bundle) if bundle is not None else None
        if runtime is None:
            return
        if not oci.delete(runtime, name) or not killing.removed(self._cgroup_root, name, END_SECONDS):
            raise RuntimeUnavailable(f"The runtime {runtime.name} did not remove its container.")


def _shared(namespace: str, pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/{namespace}").samefile(f"/proc/self/ns/{namespace}")


def _remove(directory: Path) -> None:
    """Remove it, maybe while other workers do."""
    while directory.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(directory)


def _remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise


@contextmanager
def _translated(call: str) -> Iterator[None]:
    """The system's errors become ours here."""
    try:
        yield
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        metrics.engine_errors.labels(call).inc()
        log.warning("engine.failed", call=call, detail=str(error)[:1000])
        raise RuntimeUnavailable(f"The container runtime failed to {call}.") from error
