"""An attempt that is with this worker: what is intended with it, and the only lock that guards that.

The slot that runs an attempt and those that stop it share it: whoever cancels, whoever drains the worker, and whoever
watches over the worker's lease. What they intend only rises, from :attr:`Intent.RUN` to :attr:`Intent.LEASE_LOST`. A
program starts only in :meth:`Attempt.start`, under the same lock, which raises if anything but to run is intended.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from enum import IntEnum

from orchestrator.errors import HandedBack, LeaseLost, PlatformError, RuntimeUnavailable
from worker.session import Session


class Intent(IntEnum):
    """What is to become of an attempt. A higher one replaces a lower one, and never the other way round."""

    RUN = 0
    CANCEL = 1
    HAND_BACK = 2
    LEASE_LOST = 3


ERRORS: dict[Intent, type[PlatformError]] = {Intent.HAND_BACK: HandedBack, Intent.LEASE_LOST: LeaseLost}


class CancelledBeforeStart(Exception):
    """The execution was cancelled before its program started; the program was not started."""


class Attempt:
    """One attempt, from its claim to its end on this worker. Thread-safe.

    ``may_repeat`` is the specification's ``retry``; ``stopped`` is set once the attempt shall not go on here.
    """

    def __init__(self) -> None:
        self.may_repeat = True
        self.started = False  # its program, perhaps
        self.cancelled = False
        self.stopped = threading.Event()
        self._intent = Intent.RUN
        self._session: Session | None = None
        self._lock = threading.Lock()

    @property
    def error(self) -> PlatformError | None:
        """Why the attempt shall not go on here, whatever else happens to it; ``None`` if it may."""
        error = ERRORS.get(self._intent)
        return None if error is None else error()

    def start(self, session: Session) -> None:
        """Let the program start in ``session``.

        Raises :class:`CancelledBeforeStart`, :class:`HandedBack` or :class:`LeaseLost` if that is intended instead.
        """
        with self._lock:
            if self._intent is Intent.RUN:
                self._session, self.started = session, True
                return
        raise self.error or CancelledBeforeStart()

    def cancel(self) -> None:
        """Stop the program, or do not start it."""
        session = self._rise(Intent.CANCEL)
        if session is not None:
            session.stop("cancel")

    def hand_back(self) -> None:
        """Stop the attempt unless it has ended, so that another worker repeats it."""
        self._leave(Intent.HAND_BACK)

    def lose_lease(self) -> None:
        """Stop the attempt: it may be another worker's by now."""
        self._leave(Intent.LEASE_LOST)

    def feed(self) -> None:
        """More of the program's standard input has arrived."""
        session = self._session
        if session is not None:
            session.feed()

    def check(self) -> None:
        """Raise :class:`LeaseLost` or :class:`HandedBack` if the attempt must not go on here.

        An attempt that was complete before it was handed back goes on: it has ended here.
        """
        with self._lock:
            error, session = self.error, self._session
        if error is not None and (isinstance(error, LeaseLost) or session is None or session.aborted):
            raise error

    def _rise(self, intent: Intent) -> Session | None:
        with self._lock:
            self._intent = max(self._intent, intent)
            self.cancelled = self.cancelled or intent is Intent.CANCEL
            return self._session

    def _leave(self, intent: Intent) -> None:
        session = self._rise(intent)
        self.stopped.set()
        if session is not None and session.abort():
            # At once, although the reading thread may wait for Redis; in a thread, since the engine may be slow.
            threading.Thread(target=_kill, args=[session], name="abort", daemon=True).start()


def _kill(session: Session) -> None:
    with suppress(RuntimeUnavailable):  # it was logged, and the thread that reads kills again
        session.kill()
