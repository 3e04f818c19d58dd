"""A container's exit and the kernel's counters: plain data without imports, used by every package."""

from __future__ import annotations

import signal
from dataclasses import asdict, dataclass
from typing import Any

KILLED = 128 + signal.SIGKILL  # the exit code of a killed process, as in shells


@dataclass(frozen=True)
class Ended:
    """A container's end as reported by the engine."""

    exit_code: int
    oom_killed: bool


@dataclass(frozen=True)
class Counters:
    """The kernel's counters so far; ``None`` where this host has no such counter. Counters never decrease.

    For a sandbox with a loopback, ``unrouted`` is the number of attempts to leave it, and ``sockets`` the highest
    observed number of TCP and UDP sockets.
    """

    cpu_seconds: float | None = None
    throttled_seconds: float | None = None
    peak_memory_bytes: int | None = None
    peak_processes: int | None = None
    oom_events: int = 0
    pids_events: int = 0
    unrouted: int | None = None
    sockets: int | None = None

    def after(self, earlier: Counters) -> Counters:
        """These counters; a counter that a removed cgroup no longer shows keeps its earlier value."""
        merged: dict[str, Any] = {}
        for name, now in asdict(self).items():
            known = [count for count in (now, getattr(earlier, name)) if count is not None]
            merged[name] = max(known, default=None)
        return Counters(**merged)
