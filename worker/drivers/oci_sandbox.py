"""One container of an OCI runtime: our end of its socket, and the ``run`` process; see :mod:`worker.drivers.oci`."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from orchestrator.oci import Runtime
from worker import cgroups
from worker.drivers.base import Counters
from worker.drivers.stream import Stream
from worker.profile import SandboxProfile

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
        self._counted = Counters()
        self._pidfd = -1
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
        return self.stream.receive(timeout_seconds, self._pidfd)

    def counters(self) -> Counters:
        counted = cgroups.counters_of(self._cgroup_root, self.profile.name).after(self._counted)
        if self.profile.isolation == "hardened":
            counted = replace(counted, peak_processes=None)  # those would be the threads of gVisor
        self._counted = counted
        return counted

    def hold(self, pid: int) -> None:
        """The sandbox has started, with this first process. Raises ``OSError`` if that is gone."""
        self._pidfd = os.pidfd_open(pid)
        if not self.runtime.keeps:
            self._run.send_signal(signal.SIGSTOP)

    def exit_code(self, timeout_seconds: float) -> int | None:
        """Let the runtime tidy up, and wait for its word; ``None`` if the sandbox still runs after that time."""
        self._run.send_signal(signal.SIGCONT)
        ended, _, _ = select.select([self._run_pidfd], [], [], timeout_seconds)
        if not ended:
            return None
        code = self._run.wait()
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        """End the first process, and with it all of them."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        self.stream.close()

    def forget(self) -> None:
        """Give back what it holds of this process. To be called once."""
        self._run.kill()
        self._run.wait()
        for descriptor in (self._errors, self._pidfd, self._run_pidfd):
            if descriptor >= 0:
                os.close(descriptor)
