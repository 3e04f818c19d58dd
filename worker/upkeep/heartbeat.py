"""The worker's own view of its lease: whether other workers may presume it dead.

A heartbeat gives the worker ``lease_seconds`` in Redis, counted from the heartbeat's receipt; here they are counted
from the time before it was sent, so the lease ends here first. Afterwards other workers may take this worker's
executions and destroy its containers, so later observations prove nothing about a program. So a dedicated thread calls
``on_lost`` at the end of the lease, even if other threads hang at Redis or the engine; a later heartbeat begins a new
lease only after that call. The clock continues while the host sleeps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def boot_seconds() -> float:
    """Seconds since the host started, including sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class WorkerLease:
    """The end of this worker's lease. :class:`Heartbeat` renews the lease; any thread may read it."""

    def __init__(self, lease_seconds: float, clock: Callable[[], float] = boot_seconds) -> None:
        self._seconds, self._clock = lease_seconds, clock
        self._until: float | None = None  # None without a lease

    def now(self) -> float:
        """The time by the lease's clock."""
        return self._clock()

    def left(self) -> float | None:
        """The seconds until the lease ends, at most 0 for an ended lease; ``None`` without a lease."""
        until = self._until
        return None if until is None else until - self._clock()

    def is_held(self) -> bool:
        """Whether the lease is valid, so that no other worker may presume this worker dead."""
        left = self.left()
        return left is not None and left > 0

    def renew(self, sent: float) -> None:
        """Renew the lease: a heartbeat that was sent at that time has been answered."""
        self._until = sent + self._seconds

    def end(self) -> None:
        """End the lease."""
        self._until = None


class Heartbeat:
    """Renews one worker's lease, and calls ``on_lost`` when it ends. Thread-safe."""

    def __init__(self, lease: WorkerLease, on_lost: Callable[[], None]) -> None:
        self._lease = lease
        self._on_lost = on_lost
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="lease", daemon=True)

    def start(self) -> None:
        """Start the thread that watches the lease."""
        self._thread.start()

    def renew(self, send: Callable[[], bool]) -> None:
        """Send a heartbeat; ``send`` returns whether the lease still existed in Redis, and raises if Redis is
        unreachable.
        """
        sent = self._lease.now()
        known = send()
        with self._changed:
            if self._lease.left() is not None and not (known and self._lease.is_held()):
                self._lose()
            self._lease.renew(sent)
            self._changed.notify()

    def close(self) -> None:
        """End the watch."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                left = self._lease.left()
                if left is None:
                    self._changed.wait()
                elif left > 0:
                    self._changed.wait(left)
                else:
                    self._lose()

    def _lose(self) -> None:
        self._lease.end()
        self._on_lost()
