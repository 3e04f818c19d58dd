"""Counters of the kernel for one sandbox: its cgroup, and the network of a sandbox that has a loopback."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from worker.counters import Counters
from worker.host.cgroups import Counted
from worker.host.unrouted import Unrouted
from worker.sandbox.profile import SandboxProfile


class Counting:
    """The counters of one sandbox, which never go down and outlast it. Thread-safe. ``container`` names its cgroup."""

    def __init__(self, cgroup_root: Path, container: str, profile: SandboxProfile) -> None:
        self._container, self._profile = container, profile
        self._cgroup = Counted(cgroup_root, container)
        self._network: Unrouted | None = None
        self._last = Counters()
        self._lock = threading.Lock()

    def watch_network(self, pid: int) -> None:
        """Count in the network of process ``pid`` too, if programs have a loopback there and this host sees it."""
        if self._profile.isolation == "standard" and self._profile.loopback:
            self._network = Unrouted.open(pid, self._container)

    def read(self) -> Counters:
        """The counts so far; the last counts once the cgroup is gone."""
        with self._lock:
            # gVisor dies when its cgroup is out of memory, and the cgroup may be gone before the stream's end arrives.
            counted = self._cgroup.counters().after(self._last)
            if self._network is not None:
                counted = replace(counted, unrouted=self._network.count(), sockets=self._network.sockets())
            if self._profile.isolation == "hardened":
                counted = replace(counted, peak_processes=None)  # the cgroup counts gVisor's own threads
            self._last = counted
            return counted

    @property
    def is_visible(self) -> bool:
        """Whether this worker has ever seen the cgroup."""
        return self._last.cpu_seconds is not None

    def close(self) -> None:
        """Close the network's files, and keep the last counts. Idempotent."""
        with self._lock:
            if self._network is not None:
                self._network.close()
                self._network = None
