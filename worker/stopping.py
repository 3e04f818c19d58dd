"""The end of a worker: it drains after the first signal, and hands its executions back after the second.

The kernel may deliver a signal to any thread, but Python runs handlers in the main thread only, and only when that
thread executes. So the main thread waits here while other threads work, and wakes up every ``LOOK_SECONDS``: a signal
that another thread received is handled then. No descriptor is involved that could be closed or be full.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue

LOOK_SECONDS = 0.25
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """The signals that stop this process, from the time of construction on. Used by the main thread."""

    def __init__(self) -> None:
        self._events: SimpleQueue[int] = SimpleQueue()  # a handler may call its `put` at any point
        for number in SIGNALS:
            signal.signal(number, lambda received, frame: self._events.put(received))

    def follow(
        self, work: Future[None], drain: Callable[[], None], hand_back: Callable[[], None], drain_seconds: float
    ) -> None:
        """Wait until ``work`` is done, and raise its exception.

        Call ``drain`` after the first signal. Call ``hand_back`` after another signal, or after ``drain_seconds``.
        """
        work.add_done_callback(lambda _: self._events.put(0))  # wakes this thread
        self._await(work, math.inf)
        if not work.done():
            drain()
            self._await(work, drain_seconds)
        if not work.done():
            hand_back()
        work.result()

    def _await(self, work: Future[None], most_seconds: float) -> None:
        """Wait until a signal arrives, the work is done, or the time is over."""
        deadline = time.monotonic() + most_seconds
        while not work.done() and (left := deadline - time.monotonic()) > 0:
            with suppress(Empty):
                if self._events.get(timeout=min(LOOK_SECONDS, left)):
                    return
