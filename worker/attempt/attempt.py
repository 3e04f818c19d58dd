"""An attempt on this worker: its intent (run, cancel, hand back, lease lost), and the only lock that guards the intent.

Four threads share an attempt: its slot, the listener for cancellations, the drain of the worker, and the watch over the
worker's lease. The intent only rises, from :attr:`Intent.RUN` to :attr:`Intent.LEASE_LOST`. A program starts only by
:meth:`Attempt.start`, which takes the same lock and raises for every intent except :attr:`Intent.RUN`.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from enum import IntEnum
from typing import Protocol

from orchestrator.errors import HandedBack, LeaseLost, PlatformError, RuntimeUnavailable


class Intent(IntEnum):
    """The intent for an attempt. A higher intent replaces a lower intent, never the reverse."""

    RUN = 0
    CANCEL = 1
    HAND_BACK = 2
    LEASE_LOST = 3


ERRORS: dict[Intent, type[PlatformError]] = {Intent.HAND_BACK: HandedBack, Intent.LEASE_LOST: LeaseLost}


class CancelledBeforeStart(Exception):
    """The execution was cancelled before its program started; the program was not started."""


class Program(Protocol):
    """A started program, as seen by the threads that stop it."""

    def request_stop(self) -> bool:
        """Ask the agent to end the program; ``False`` if the request cannot be sent."""

    def kill(self) -> None:
        """Kill the sandbox. Raises :class:`RuntimeUnavailable`."""

    def feed(self) -> None:
        """More of the program's standard input has arrived."""


class Attempt:
    """One attempt, from its claim to its end on this worker. Thread-safe.

    ``may_repeat`` is the specification's ``retry``; ``stopped`` is set once the attempt must not continue on this
    worker, ``aborted`` if it was incomplete at that time.
    """

    def __init__(self) -> None:
        self.may_repeat = True
        self.started = self.cancelled = self.aborted = False
        self.stopped = threading.Event()
        self._intent = Intent.RUN
        self._program: Program | None = None
        self._complete = False
        self._lock = threading.Lock()

    @property
    def error(self) -> PlatformError | None:
        """The reason why the attempt must not continue on this worker; ``None`` if it may."""
        error = ERRORS.get(self._intent)
        return None if error is None else error()

    def start(self, program: Program) -> None:
        """Start a program.

        Raises :class:`CancelledBeforeStart`, :class:`HandedBack` or :class:`LeaseLost` for the corresponding intent.
        """
        with self._lock:
            if self._intent is Intent.RUN:
                self._program, self.started = program, True
                return
        raise self.error or CancelledBeforeStart()

    def complete(self) -> None:
        """Record that the agent has sent its last frame; a later intent stops no program."""
        with self._lock:
            self._complete = True

    def cancel(self) -> None:
        """Stop the program, or do not start it."""
        program = self._rise(Intent.CANCEL)
        if program is not None:
            program.request_stop()

    def hand_back(self) -> None:
        """Stop an attempt that has not ended, so that another worker retries it."""
        self._leave(Intent.HAND_BACK)

    def lose_lease(self) -> None:
        """Stop the attempt, since another worker may own the execution."""
        self._leave(Intent.LEASE_LOST)

    def feed(self) -> None:
        """More of the program's standard input has arrived."""
        program = self._program
        if program is not None:
            program.feed()

    def check(self) -> None:
        """Raise :class:`LeaseLost` or :class:`HandedBack` if the attempt must not continue on this worker.

        An attempt that was complete before it was handed back continues, since its program has ended.
        """
        with self._lock:
            error, left = self.error, self.aborted or self._program is None
        if error is not None and (left or isinstance(error, LeaseLost)):
            raise error

    def _rise(self, intent: Intent) -> Program | None:
        with self._lock:
            self._intent = max(self._intent, intent)
            self.cancelled = self.cancelled or intent is Intent.CANCEL
            self.aborted = self.aborted or (self._intent >= Intent.HAND_BACK and not self._complete)
            return self._program

    def _leave(self, intent: Intent) -> None:
        program = self._rise(intent)
        self.stopped.set()
        if program is not None and self.aborted:
            # At once, although the reading thread may wait for Redis; in a thread, since the engine may be slow.
            threading.Thread(target=_kill, args=[program], name="abort", daemon=True).start()


def _kill(program: Program) -> None:
    with suppress(RuntimeUnavailable):  # the failure was logged, and the reading thread kills again
        program.kill()
