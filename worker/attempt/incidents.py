"""The security events of one attempt, from several threads, on their way to its stream.

The session adds what it sees, the kernel watch what it reads; the session's thread takes what waits and writes it among
the output. The first of a kind (with the same call, path or cause) goes out at once, repetitions are counted, and the
count follows at the end: a program that is denied a million times writes two events. After the end of the attempt
nobody takes any more, so what comes late is handed to ``settle``'s callback.
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
        """Something was blocked. ``total`` is how often so far where the source counts; else each call counts one."""
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
        """The program is to be ended for what was noted."""
        with self._changed:
            first, self._ending = not self._ending, True
            act = self._act
        if first and act is not None:
            act()

    def on_end(self, act: Callable[[], object]) -> None:
        """Call ``act`` as soon as the program is to be ended, by the thread that finds out."""
        with self._changed:
            self._act, ending = act, self._ending
        if ending:
            act()

    @property
    def flooded(self) -> bool:
        """Whether the program is to be ended: for what was noted, or for more denials than a program may cause."""
        return self._ending or self.denied_too_often

    @property
    def denied_too_often(self) -> bool:
        """Whether more system calls were denied than a program may try."""
        return self._denied > MAX_DENIALS

    def take(self) -> list[SecurityEvent]:
        """What has come since the last call."""
        with self._changed:
            taken, self._waiting = self._waiting, []
            return taken

    def kills(self, patience_seconds: float) -> int:
        """How many processes the seccomp filter has killed so far; the first is waited for as long as that."""
        deadline = time.monotonic() + patience_seconds
        with self._changed:
            while not (found := self._kills()) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return found

    def finish(self) -> list[SecurityEvent]:
        """What still waits, and how often everything happened that happened again since it was reported."""
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
        """The attempt is over: call ``late`` with anything new from now on."""
        with self._changed:
            self._late = late
            waiting, self._waiting = self._waiting, []
        for event in waiting:
            late(event)

    def _kills(self) -> int:
        return sum(seen.count for seen in self._seen.values() if getattr(seen.event.evidence, "killed", False))
