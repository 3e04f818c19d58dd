"""One container of an OCI runtime: our end of its socket, and the ``run`` process."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from orchestrator.host.oci import Runtime
from worker.counters import Counters
from worker.drivers.stream import Stream
from worker.host.cgroups import Counted
from worker.host.exits import ExitWatch, unreaped_code
from worker.host.killing import kill_all
from worker.host.unrouted import Unrouted
from worker.sandbox.profile import SandboxProfile

MAX_DIAGNOSTICS = 4096


class OciSandbox:
    """A container, our end of its socket, and its ``run`` process."""

    def __init__(
        self,
        profile: SandboxProfile,
        runtime: Runtime,
        run: subprocess.Popen[bytes],
        stream: socket.socket,
        errors: int,
        cgroup_root: Path,
    ) -> None:
        self.profile = profile
        self.runtime = runtime
        self.stream = Stream(stream)
        self._errors = errors
        self._run = run
        self._run_pidfd = os.pidfd_open(run.pid)
        self._cgroup_root = cgroup_root
        self._cgroup = Counted(cgroup_root, profile.name)
        self._counted = Counters()
        # Its runtime keeps the cgroup; gVisor's goes on to tell the exit code, and removes it.
        self.cgroup_survives_exit = profile.isolation == "standard"
        self._pid = self._pidfd = self._mounts = -1
        self._watch: ExitWatch | None = None
        self._unrouted: Unrouted | None = None
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

    def send(self, data: bytes, timeout_seconds: float) -> None:
        self.stream.send(data, timeout_seconds)

    def receive(self, timeout_seconds: float) -> bytes | None:
        # A `run` process that is stopped holds the stream open; one that goes on copies it, also after the end.
        return self.stream.receive(timeout_seconds, -1 if self.runtime.keeps else self._pidfd)

    def counters(self) -> Counters:
        counted = self._cgroup.counters().after(self._counted)
        if self._unrouted is not None:
            counted = replace(counted, unrouted=self._unrouted.count(), sockets=self._unrouted.sockets())
        if self.profile.isolation == "hardened":
            counted = replace(counted, peak_processes=None)  # those would be the threads of gVisor
        self._counted = counted
        return counted

    def hold(self, pid: int) -> None:
        """The sandbox has started, with this first process. Raises ``OSError`` if that is gone."""
        self._pid, self._pidfd = pid, os.pidfd_open(pid)
        # Else the sandbox's end would be told only after its forty mounts have been taken apart.
        self._mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        watch = ExitWatch(self._pidfd)
        if self.profile.isolation == "standard" and watch.works():  # gVisor's first process is not the agent
            self._watch = watch
        if self.profile.isolation == "standard" and self.profile.loopback:
            self._unrouted = Unrouted.open(pid, self.profile.name)
        if not self.runtime.keeps:
            self._signal_run(signal.SIGSTOP)

    def exit_code(self, timeout_seconds: float) -> int | None:
        """How it ended, by the kernel's word or the runtime's; ``None`` if it still runs after that time.

        A runtime that is stopped need not go on for the kernel's word: it tidies up when :meth:`tidied` waits for that,
        and whoever waits for the result has the CPU until then.
        """
        deadline = time.monotonic() + timeout_seconds
        if self.cgroup_survives_exit and not self.runtime.keeps:
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

    def tidied(self, timeout_seconds: float) -> bool:
        """Whether the runtime has ended within that time, and by itself, so that it has removed what it holds."""
        self._signal_run(signal.SIGCONT)
        return self._runtime_ended(timeout_seconds) and self._run.wait() >= 0

    def _runtime_ended(self, timeout_seconds: float) -> bool:
        return bool(select.select([self._run_pidfd], [], [], timeout_seconds)[0])

    def kill(self) -> None:
        """End every process, at once where this worker may write the cgroup, else as the first one comes to die."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        kill_all(self._cgroup_root, self.profile.name, between=self.counters)

    def _signal_run(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._run_pidfd, number)

    def close(self) -> None:
        self.stream.close()

    def forget(self) -> None:
        """Give back what it holds of this process. To be called once."""
        if self._unrouted is not None:
            self._unrouted.close()
            self._unrouted = None
        self._run.kill()
        self._run.wait()
        for descriptor in (self._errors, self._mounts, self._pidfd, self._run_pidfd):
            if descriptor >= 0:
                os.close(descriptor)
