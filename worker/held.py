"""An execution that is with this worker, and why it shall not go on here, if it shall not."""

from __future__ import annotations

import threading
from contextlib import suppress

from orchestrator.errors import LeaseLost, MayflyError, RuntimeUnavailable
from worker.session import Session


class Held:
    """One execution from its claim to its end here. The slot that runs it and those that stop it share it.

    ``why`` it shall not go on here is ``None`` as long as it may.
    """

    def __init__(self) -> None:
        self.cancelled = False
        self.started = False  # its program, perhaps
        self.may_repeat = True
        self.left = threading.Event()
        self._session: Session | None = None
        self.why: MayflyError | None = None
        self._lock = threading.Lock()

    def enter(self, session: Session) -> bool:
        """Whether the program may start; ``False`` if it was cancelled before. Raises why it may not start here."""
        with self._lock:
            self._session = session
            self.started = self.why is None and not self.cancelled
        self.check()
        return self.started

    def cancel(self) -> None:
        """Stop the program, or do not start it."""
        with self._lock:
            self.cancelled = True
        if self._session is not None:
            self._session.stop("cancel")

    def fed(self) -> None:
        """There is more of its standard input."""
        if self._session is not None:
            self._session.fed()

    def leave(self, why: MayflyError) -> None:
        """Let go of it, now."""
        with self._lock:
            if self.why is None or isinstance(why, LeaseLost):
                self.why = why
            self.left.set()
        session = self._session
        if session is not None and session.abort():
            # At once, though who reads may be waiting for Redis, and apart, since the engine may keep us waiting.
            threading.Thread(target=_kill, args=[session], name="abort", daemon=True).start()

    def check(self) -> None:
        """Raise why the execution cannot go on here, if it cannot.

        One that had said everything before it was to be handed back has ended here.
        """
        why = self.why
        if why is not None and (isinstance(why, LeaseLost) or self._session is None or self._session.aborted):
            raise why


def _kill(session: Session) -> None:
    with suppress(RuntimeUnavailable):  # it was logged, and the thread that reads tries again
        session.kill()
