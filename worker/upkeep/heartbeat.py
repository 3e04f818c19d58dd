"""The worker's lease as the worker itself sees it: whether others may believe by now that it is dead.

A heartbeat gives the worker ``lease_seconds`` in Redis, counted from when Redis got it; here they are counted from
before it was sent, so this side's end comes first. From that end on others may have taken its executions and destroyed
its containers: nothing seen after it says anything about a program. So at that moment, whatever thread hangs at Redis
or the engine, ``on_lost`` is called by a thread that does nothing else; and a later heartbeat begins a new lease only
after that was done. The clock goes on while the host sleeps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def boot_seconds() -> float:
    """Seconds since the host started, those in which it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Heartbeat:
    """One worker's lease. Thread-safe."""

    def __init__(
        self, lease_seconds: float, on_lost: Callable[[], None], clock: Callable[[], float] = boot_seconds
    ) -> None:
        self._lease_seconds = lease_seconds
        self._on_lost = on_lost
        self._clock = clock
        self._changed = threading.Condition()
        self._until: float | None = None  # None: there is no lease
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="lease", daemon=True)

    def start(self) -> None:
        """Begin to watch over the lease."""
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether everybody still has to take this worker for alive."""
        until = self._until
        return until is not None and self._clock() < until

    def renew(self, send: Callable[[], bool]) -> None:
        """Send a heartbeat; ``send`` says whether Redis still knew this worker, and raises if it did not get there."""
        sent = self._clock()
        known = send()
        with self._changed:
            if self._until is not None and not (known and self._clock() < self._until):
                self._lose()
            self._until = sent + self._lease_seconds
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
                if self._until is None:
                    self._changed.wait()
                elif (left := self._until - self._clock()) > 0:
                    self._changed.wait(left)
                else:
                    self._lose()

    def _lose(self) -> None:
        self._until = None
        self._on_lost()
