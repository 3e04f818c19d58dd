"""The security events of one attempt, collected from several threads and written to its stream.

The session adds its observations, and the kernel watch its audit records; the session's thread takes pending events and
writes them among the output. The first event of a kind (with the same call, path or cause) is written at once,
repetitions are counted, and the count is written at the end: a program with a million denials causes two events. Events
after the end of the attempt go to ``settle``'s callback.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestrator.models.security import DeniedCall, SecurityEvent

MAX_DISTINCT = 100
MAX_DENIALS = 10_000  # a program can cause 100,000 a second, and each costs the host time that no cgroup counts
IDENTITY = ("syscall", "architecture", "killed", "path", "why", "clock")  # the evidence by which events are the same


@dataclass
class _Seen:
    event: SecurityEvent
    count: int
    reported: int


class Incidents:
    """Thread-safe, bounded, each distinct event once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seen: dict[tuple[object, ...], _Seen] = {}
        self._waiting: list[SecurityEvent] = []
        self._left_out = 0
        self._denied = 0
        self._ending = False
        self._act: Callable[[], object] | None = None
        self._late: Callable[[SecurityEvent], None] | None = None

    def note(self, event: SecurityEvent, total: int | None = None) -> None:
        """Record a blocked action. ``total`` is the number so far if the source counts; otherwise each call of this
        method counts as one.
        """
        key = (event.kind, *(getattr(event.evidence, name, None) for name in IDENTITY))
        with self._changed:
            self._denied += isinstance(event.evidence, DeniedCall)
            seen = self._seen.get(key)
            if seen is not None:
                seen.count = seen.count + 1 if total is None else max(seen.count, total)
                return
            if len(self._seen) >= MAX_DISTINCT:
                self._left_out += 1
                return
            count = total or 1
            event = replace(event, count=count)
            self._seen[key] = _Seen(event, count, count)
            late = self._late
            if late is None:
                self._waiting.append(event)
                self._changed.notify_all()
        if late is not None:
            late(event)

    def end(self) -> None:
        """Record that the program must be ended for a recorded event."""
        with self._changed:
            first, self._ending = not self._ending, True
            act = self._act
        if first and act is not None:
            act()

    def on_end(self, act: Callable[[], object]) -> None:
        """Call ``act`` as soon as the program must be ended, in the thread that records the reason."""
        with self._changed:
            self._act, ending = act, self._ending
        if ending:
            act()

    @property
    def flooded(self) -> bool:
        """Whether the program must be ended, for a recorded event or for too many denials."""
        return self._ending or self.denied_too_often

    @property
    def denied_too_often(self) -> bool:
        """Whether the number of denied system calls exceeds its bound."""
        return self._denied > MAX_DENIALS

    def take(self) -> list[SecurityEvent]:
        """The events since the last call."""
        with self._changed:
            taken, self._waiting = self._waiting, []
            return taken

    def kills(self, patience_seconds: float) -> int:
        """The number of processes killed by the seccomp filter; waits up to that time for the first."""
        deadline = time.monotonic() + patience_seconds
        with self._changed:
            while not (found := self._kills()) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return found

    def finish(self) -> list[SecurityEvent]:
        """The pending events, and the counts of repeated events."""
        with self._changed:
            for seen in self._seen.values():
                if seen.count > seen.reported:
                    seen.reported = seen.count
                    self._waiting.append(replace(seen.event, count=seen.count))
            if self._left_out:
                detail = (
                    f"{self._left_out} more actions were blocked than the {MAX_DISTINCT} that are reported one by one."
                )
                kind = next(iter(self._seen.values())).event.kind
                self._waiting.append(SecurityEvent(kind, detail, "host", count=self._left_out))
                self._left_out = 0
        return self.take()

    def settle(self, late: Callable[[SecurityEvent], None]) -> None:
        """Record the end of the attempt; later events are passed to ``late``."""
        with self._changed:
            self._late = late
            waiting, self._waiting = self._waiting, []
        for event in waiting:
            late(event)

    def _kills(self) -> int:
        return sum(seen.count for seen in self._seen.values() if getattr(seen.event.evidence, "killed", False))
