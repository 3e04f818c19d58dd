"""One container of an OCI runtime, from its bundle to its removal.

Theory of operation
===================
``<runtime> run`` is a child of this process and the parent of the sandbox's first process: it waits for that process,
removes the cgroup and its own state, and exits with the process's exit code. The agent's standard input and output are
one socket, whose other end this process has: when this process dies, the agent sees the end of its input and ends all
processes.

*Nothing is removed before it was read.* While the sandbox lives, its ``run`` process is stopped (SIGSTOP), so that the
cgroup stays when the kernel has ended the sandbox, until :meth:`OciSandbox.destroy` lets it continue (gVisor's earlier,
when its exit code is read). The ``run`` process has a process group of its own in our session: when this process dies,
the kernel sends SIGHUP and SIGCONT to that group (POSIX, "orphaned process groups"), and the ``run`` process cleans up
as usual. Only runc must not be stopped, since it copies between the agent and the worker; an option makes runc keep
the container instead, which costs one more call.

*Descriptors.* ``destroy`` closes the handle's pidfds under a lock that ``kill`` takes too, so that ``kill`` never uses
a descriptor number that was closed and reused.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator.errors import RuntimeUnavailable, WeakContainer
from orchestrator.host.oci import Runtime
from orchestrator.host.rootfs import Rootfs
from orchestrator.models import Limits
from orchestrator.settings import Settings
from worker.counters import KILLED, Counters, Ended
from worker.drivers.counting import Counting
from worker.drivers.oci.config import caps_of, oci_config, rendered
from worker.drivers.oci.removal import END_SECONDS, delete, remove, translated
from worker.drivers.oci.startup_cache import CompiledFilter, SealedProgram
from worker.drivers.stream import Stream
from worker.host import cgroups
from worker.host.exits import ExitWatch, unreaped_code
from worker.host.killing import kill_all
from worker.sandbox.profile import SandboxProfile, pids_limit

START_SECONDS = 30.0
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
MAX_DIAGNOSTICS = 4096
log = structlog.get_logger()


@dataclass(frozen=True)
class Starter:
    """A runtime of this host, and the common data of its starts. ``program`` is the runtime's file in memory, if there
    is one.
    """

    settings: Settings
    runtime: Runtime
    filters: CompiledFilter
    program: SealedProgram | None

    def command(self) -> list[str]:
        """The command and its global options, which begin each call."""
        runtime, program = self.runtime, self.program
        return [program.path() if program and part == runtime.path else part for part in runtime.command]


class OciSandbox:
    """A container, this process's end of its socket, and its ``run`` process."""

    def __init__(self, profile: SandboxProfile, starter: Starter, image: Rootfs, bundle: Path) -> None:
        self.profile = profile
        self.stream = Stream()
        # Its runtime keeps the cgroup; gVisor's continues to report the exit code, and removes it.
        self.cgroup_survives_exit = profile.isolation == "standard"
        self._starter, self._image, self._bundle = starter, image, bundle
        self._runtime, self._settings = starter.runtime, starter.settings
        self._cgroup_root = starter.settings.cgroup_root
        self._counting = Counting(self._cgroup_root, profile.name, profile)
        self._lock = threading.Lock()
        self._begun = False  # whether the container may have left something to remove
        self._run: subprocess.Popen[bytes] | None = None
        self._errors = self._run_pidfd = self._pid = self._pidfd = self._mounts = -1
        self._watch: ExitWatch | None = None
        self._diagnostics = b""

    @property
    def diagnostics(self) -> bytes:
        while self._errors >= 0 and (room := MAX_DIAGNOSTICS - len(self._diagnostics)) > 0:
            try:
                more = os.read(self._errors, room)
            except BlockingIOError:
                break
            if not more:
                break
            self._diagnostics += more
        return self._diagnostics

    def start(self) -> None:
        profile, bundle, filters = self.profile, self._bundle, self._starter.filters
        self._begun = True
        with translated("create"):
            # Another worker may have presumed this worker dead, and removed its directory.
            bundle.parent.mkdir(exist_ok=True, mode=0o700)
            bundle.mkdir(mode=0o700)
            (bundle / "runtime").write_text(self._runtime.name, encoding="utf-8")
            config = oci_config(profile, bundle / "root", self._image.process, filters.annotations(profile))
            (bundle / "config.json").write_text(rendered(config), encoding="utf-8")
        with translated("start"), self._image.own(bundle / "root"):
            self._start_runtime()
            pid = self._await_start(bundle / "pid")
            self._hold(pid)
            self._refuse_weaker(pid)
            if profile.buffer_bytes:
                cgroups.bound_buffers(self._cgroup_root, profile.name, profile.buffer_bytes)
            filters.learn(profile)

    def send(self, data: bytes, timeout_seconds: float) -> None:
        self.stream.send(data, timeout_seconds)

    def receive(self, timeout_seconds: float) -> bytes | None:
        # A stopped `run` process keeps the stream open; a running one copies the stream, also after the end.
        return self.stream.receive(timeout_seconds, -1 if self._runtime.keeps else self._pidfd)

    def counters(self) -> Counters:
        return self._counting.read()

    def restore_cpu_weight(self) -> None:
        with translated("update"):
            cgroups.restore_cpu_weight(self._cgroup_root, self.profile.name)

    def adjust(self, limits: Limits) -> None:
        caps = cgroups.Caps.of(limits.memory_bytes, limits.cpu_cores, pids_limit(self.profile.isolation, limits))
        with translated("update"):
            cgroups.set_caps(self._cgroup_root, self.profile.name, caps)
            if differs := cgroups.weaker_caps(self._cgroup_root, self.profile.name, caps):
                raise WeakContainer(f"The kernel did not apply the requested limits: {', '.join(differs)}.")

    def wait(self, timeout_seconds: float) -> Ended | None:
        """The container's end, as reported by the kernel or the runtime; ``None`` if it still runs after that time.

        If the kernel reports the end, the stopped runtime stays stopped: it cleans up in :meth:`destroy`, and until
        then the CPU is free for the result.
        """
        counted = self.counters()  # the last counters that can be read
        code = self._exit_code(timeout_seconds)
        if code is None:
            return None
        return Ended(exit_code=code, oom_killed=code == KILLED and counted.oom_events > 0)

    def kill(self) -> None:
        """Kill every process: at once if this worker may write the cgroup, otherwise after the first process has
        died.
        """
        with self._lock:
            if self._run is not None:
                self._kill()

    def destroy(self) -> None:
        self.stream.close()
        if not self._begun:
            return
        with translated("remove"), self._lock:
            tidied = False
            try:
                if self._run is not None:
                    self._kill()
                    tidied = self._tidied(END_SECONDS) and not self._runtime.keeps
            finally:
                self._forget()
            if not tidied:
                delete(self._settings, self._bundle)
            remove(self._settings, self._bundle)

    def _start_runtime(self) -> None:
        name, bundle = self.profile.name, self._bundle
        command = [*self._starter.command(), "run", "--bundle", str(bundle), "--pid-file", str(bundle / "pid")]
        command += ["--keep", name] if self._runtime.keeps else [name]
        ours, theirs = socket.socketpair()
        self.stream.connect(ours)
        self._errors, errors_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._run = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=errors_end, cwd="/", process_group=0,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )  # fmt: skip
        finally:
            theirs.close()
            os.close(errors_end)
        self._run_pidfd = os.pidfd_open(self._run.pid)

    def _await_start(self, pid_file: Path) -> int:
        """The first process, once its agent has sent its first bytes."""
        if not self.stream.begun(START_SECONDS):
            log.warning("runtime.failed", container=self.profile.name, output=repr(self.diagnostics))
            raise RuntimeUnavailable(f"The runtime {self._runtime.name} started no sandbox.")
        deadline = time.monotonic() + START_SECONDS
        while not pid_file.exists() or not (pid := pid_file.read_text(encoding="ascii")):
            if time.monotonic() > deadline:
                raise RuntimeUnavailable(f"The runtime {self._runtime.name} did not report its container.")
            time.sleep(0.001)  # runc writes the file a moment after the start, without a notification
        return int(pid)

    def _hold(self, pid: int) -> None:
        """Record the first process of the started sandbox. Raises ``OSError`` if the process has ended."""
        self._pid, self._pidfd = pid, os.pidfd_open(pid)
        # Keeps the mount namespace: without this descriptor the end would be reported only after forty unmounts.
        self._mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        watch = ExitWatch(self._pidfd)
        if self.profile.isolation == "standard" and watch.works():  # gVisor's first process is not the agent
            self._watch = watch
        self._counting.watch_network(pid)
        if not self._runtime.keeps:
            self._signal_run(signal.SIGSTOP)

    def _refuse_weaker(self, pid: int) -> None:
        """Compare the kernel's description of the container with its profile. Raises :class:`WeakContainer`."""
        profile = self.profile
        differs = cgroups.weaker_caps(self._cgroup_root, profile.name, caps_of(profile))
        held = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()
        mine = [line for line in held if line.endswith(f"/{cgroups.OURS}/{profile.name}")]
        differs += [] if mine else ["cgroup"]
        if profile.isolation == "standard":  # gVisor's kernel has namespaces of its own
            differs += [f"{name} namespace" for name in NAMESPACES if _shared(name, pid)]
        if differs:
            raise WeakContainer(f"The runtime made a container weaker than its profile: {', '.join(differs)}.")

    def _exit_code(self, timeout_seconds: float) -> int | None:
        if self._run is None:
            return None
        deadline = time.monotonic() + timeout_seconds
        if self.cgroup_survives_exit and not self._runtime.keeps:
            if (reported_code := unreaped_code(self._pid, self._pidfd, timeout_seconds)) is not None:
                return reported_code
            timeout_seconds = max(0.0, deadline - time.monotonic())
        self._signal_run(signal.SIGCONT)
        if self._watch is not None and (reported_code := self._watch.wait(timeout_seconds)) is not None:
            return reported_code
        if not self._runtime_ended(max(0.0, deadline - time.monotonic())):
            return None
        code = self._run.wait()
        return code if code >= 0 else 128 - code

    def _tidied(self, timeout_seconds: float) -> bool:
        """Whether the runtime has exited by itself within that time, and so has removed its container."""
        self._signal_run(signal.SIGCONT)
        return self._runtime_ended(timeout_seconds) and self._run is not None and self._run.wait() >= 0

    def _runtime_ended(self, timeout_seconds: float) -> bool:
        return bool(select.select([self._run_pidfd], [], [], timeout_seconds)[0])

    def _kill(self) -> None:
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        kill_all(self._cgroup_root, self.profile.name, between=self.counters)

    def _signal_run(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._run_pidfd, number)

    def _forget(self) -> None:
        """Close the handle's descriptors of processes. Idempotent."""
        self._counting.close()
        if self._run is not None:
            self._run.kill()
            self._run.wait()
        held = (self._errors, self._mounts, self._pidfd, self._run_pidfd)
        self._run = self._watch = None
        self._errors = self._mounts = self._pidfd = self._run_pidfd = -1
        for descriptor in held:
            if descriptor >= 0:
                os.close(descriptor)


def _shared(namespace: str, pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/{namespace}").samefile(f"/proc/self/ns/{namespace}")
