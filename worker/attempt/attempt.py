"""An attempt that is with this worker: what is intended with it, and the only lock that guards that.

Four threads share it: the slot that runs it, the listener for cancellations, the drain of the worker, and the watch
over the worker's lease. What they intend only rises, from :attr:`Intent.RUN` to :attr:`Intent.LEASE_LOST`. A program
starts only by :meth:`Attempt.start`, under the same lock, which raises if anything but to run is intended.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from enum import IntEnum
from typing import Protocol

from orchestrator.errors import HandedBack, LeaseLost, PlatformError, RuntimeUnavailable


class Intent(IntEnum):
    """What is to become of an attempt. A higher one replaces a lower one, and never the other way round."""

    RUN = 0
    CANCEL = 1
    HAND_BACK = 2
    LEASE_LOST = 3


ERRORS: dict[Intent, type[PlatformError]] = {Intent.HAND_BACK: HandedBack, Intent.LEASE_LOST: LeaseLost}


class CancelledBeforeStart(Exception):
    """The execution was cancelled before its program started; the program was not started."""


class Program(Protocol):
    """A program that was started, as those that stop it see it."""

    def request_stop(self) -> bool:
        """Ask the agent to end the program; ``False`` if it does not listen."""

    def kill(self) -> None:
        """Kill the sandbox. Raises :class:`RuntimeUnavailable`."""

    def feed(self) -> None:
        """More of the program's standard input has arrived."""


class Attempt:
    """One attempt, from its claim to its end on this worker. Thread-safe.

    ``may_repeat`` is the specification's ``retry``; ``stopped`` is set once the attempt shall not go on here, and
    ``aborted`` if it was not complete then.
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
        """Why the attempt shall not go on here, whatever else happens to it; ``None`` if it may."""
        error = ERRORS.get(self._intent)
        return None if error is None else error()

    def start(self, program: Program) -> None:
        """Let a program start.

        Raises :class:`CancelledBeforeStart`, :class:`HandedBack` or :class:`LeaseLost` if that is intended instead.
        """
        with self._lock:
            if self._intent is Intent.RUN:
                self._program, self.started = program, True
                return
        raise self.error or CancelledBeforeStart()

    def complete(self) -> None:
        """The agent has sent everything; what is intended from now on stops no program."""
        with self._lock:
            self._complete = True

    def cancel(self) -> None:
        """Stop the program, or do not start it."""
        program = self._rise(Intent.CANCEL)
        if program is not None:
            program.request_stop()

    def hand_back(self) -> None:
        """Stop the attempt unless it has ended, so that another worker repeats it."""
        self._leave(Intent.HAND_BACK)

    def lose_lease(self) -> None:
        """Stop the attempt: it may be another worker's by now."""
        self._leave(Intent.LEASE_LOST)

    def feed(self) -> None:
        """More of the program's standard input has arrived."""
        program = self._program
        if program is not None:
            program.feed()

    def check(self) -> None:
        """Raise :class:`LeaseLost` or :class:`HandedBack` if the attempt must not go on here.

        An attempt that was complete before it was handed back goes on: it has ended here.
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
    with suppress(RuntimeUnavailable):  # it was logged, and the thread that reads kills again
        program.kill()
