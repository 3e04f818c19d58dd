"""How a container ended and what the kernel counted of it: plain data, for every room."""

from __future__ import annotations

import signal
from dataclasses import asdict, dataclass
from typing import Any

KILLED = 128 + signal.SIGKILL  # the exit code of what was killed, as shells have it


@dataclass(frozen=True)
class Ended:
    """How the engine says a container ended."""

    exit_code: int
    oom_killed: bool


@dataclass(frozen=True)
class Counters:
    """What the kernel counted so far; ``None`` where this host does not count it. Nothing here ever goes down.

    Of a sandbox with a loopback, ``unrouted`` is how often a program tried to leave it, and ``sockets`` the most TCP
    and UDP sockets that were seen in it.
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
        """These counts, and the earlier ones where a cgroup is gone by now."""
        merged: dict[str, Any] = {}
        for name, now in asdict(self).items():
            known = [count for count in (now, getattr(earlier, name)) if count is not None]
            merged[name] = max(known, default=None)
        return Counters(**merged)
