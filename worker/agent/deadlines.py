"""The bounds on an attempt's wall time and CPU time in each phase, by the host's clock and the cgroup.

Only :mod:`worker.agent.conversation` knows the phase of an attempt; methods that depend on the phase have an argument
``collecting``. No frame lifts a bound: a frame only moves the attempt into the next phase, and each has its own bounds.
For any frames of its sandbox, an attempt is over

    wall_seconds + GRACE_SECONDS + COLLECT_SECONDS after its start (and the few seconds that an end takes), or
    after cpu_seconds + COLLECT_CPU_SECONDS of CPU time.

The seconds for which a program waits for its tools are added to its wall time, as measured by the worker and up to a
separate bound (``tool_wait_seconds``). CPU time always counts.

The fault is ``platform`` only if the host's own counters exclude both the program and the requested limits as the
cause. Times are monotonic seconds.
"""

from __future__ import annotations

from typing import Literal

from orchestrator.models import Limits
from worker.counters import Counters

GRACE_SECONDS = 1.0  # in which the agent applies a soft limit or a stop before the host does
COLLECT_SECONDS = 30.0
SILENT_SECONDS = 10.0  # a collecting agent that is silent for longer has too much work
CPU_GRACE_SECONDS = 0.5
COLLECT_CPU_SECONDS = 5.0  # for the agent to find, read and send the artifacts
SHARE = 0.5  # work that takes this share of the elapsed time is the cause of a delay


class Deadlines:
    """The deadlines of one attempt, made at ``now``."""

    def __init__(
        self, limits: Limits, host_counts_cpu: bool, tool_wait_seconds: float = 0.0, *, now: float = 0.0
    ) -> None:
        self._limits, self._tool_wait_seconds = limits, tool_wait_seconds
        self.waited_seconds = 0.0  # for tools, up to the bound
        self._waits = self._collects = False
        self._cpu_bound = limits.cpu_seconds + (0.0 if host_counts_cpu else CPU_GRACE_SECONDS)
        self._before = self._last = self._at_end = Counters()
        self._busy_seconds = 0.0
        self.began = self.ended = self.observed = self._at = now

    @property
    def at(self) -> float:
        """The time at which the sandbox must be killed."""
        return self._at if self._collects else self._at + self.waited_seconds

    @property
    def stop_at(self) -> float:
        """The time at which a program with tools must be stopped, unless it waits for a tool until then."""
        return self.at - GRACE_SECONDS

    @property
    def latest_stop_at(self) -> float:
        """The stop time of a program that uses all of its permitted wait for tools."""
        return self._at + self._tool_wait_seconds - GRACE_SECONDS

    @property
    def moves(self) -> bool:
        """Whether the deadline still moves, since the program waits for a tool."""
        return self._waits and self.waited_seconds < self._tool_wait_seconds

    def wait(self, seconds: float, waits: bool) -> None:
        """Record the seconds for which the program has waited for its tools, and whether it still waits."""
        if not self._collects:
            self.waited_seconds, self._waits = min(seconds, self._tool_wait_seconds), waits

    def begin(self, now: float, counters: Counters) -> None:
        """Record that START was sent."""
        self.began = self.ended = self.observed = now
        self._before = self._last = counters
        self._at = now + self._limits.wall_seconds + GRACE_SECONDS

    def collect(self, now: float) -> None:
        """Record that the agent reported the program's end, and that collecting its files begins."""
        self.ended, self._at, self._collects = now, now + COLLECT_SECONDS, True
        self._at_end, self._busy_seconds = self._last, 0.0

    def record_frames(self, now: float, busy_seconds: float) -> None:
        """Record that frames were received, and the seconds the worker needed to process them."""
        self.observed = now
        self._busy_seconds += busy_seconds

    def passed(self, now: float) -> bool:
        """Whether the time is over."""
        return now >= self.at

    def used_up(self, counters: Counters, *, collecting: bool) -> bool:
        """Whether the CPU time exceeds the bound of the current phase."""
        self._last = counters
        if counters.cpu_seconds is None or self._before.cpu_seconds is None:
            return False
        bound = self._cpu_bound + (COLLECT_CPU_SECONDS if collecting else 0.0)
        return counters.cpu_seconds - self._before.cpu_seconds > bound

    def is_throttled(self, now: float, counters: Counters) -> bool:
        """Whether the delay is caused by the small CPU share that the caller requested."""
        before, after = self._before.throttled_seconds, counters.throttled_seconds
        return before is not None and after is not None and after - before >= SHARE * (now - self.began)

    def too_slow(self, now: float, counters: Counters) -> Literal["collect", "platform"]:
        """The fault of slow collecting: hostile names and patterns cost the agent, not the platform."""
        took = now - self.ended
        if self._busy_seconds >= SHARE * took:
            return "platform"
        before = self._at_end
        if None in (before.cpu_seconds, before.throttled_seconds, counters.cpu_seconds, counters.throttled_seconds):
            return "collect" if now - self.observed >= SILENT_SECONDS else "platform"
        given = sum(
            (getattr(counters, name) or 0.0) - (getattr(before, name) or 0.0)
            for name in ("cpu_seconds", "throttled_seconds")
        )
        return "collect" if given >= SHARE * took else "platform"
