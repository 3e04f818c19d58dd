"""A process's lease to use the data, and its end when a migration concerns the process.

A process looks every ``BEAT_SECONDS``. When a migration begins, the process ends in good order, which frees its lease;
then the same process begins anew, and waits before it reads or writes anything until it may use the data again. So a
supervisor sees no crash. A process whose lease may have ended, after ``LEASE_SECONDS`` without Redis, accepts no work
until it has looked again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from orchestrator import __version__
from orchestrator.errors import Migrating, StoreUnavailable, Unavailable
from orchestrator.store.platform.schema import LEASE_SECONDS, NUMBER, Kind, Process, Schema

BEAT_SECONDS = 1.0
log = structlog.get_logger()


def process_of(id: str, kind: Kind) -> Process:
    """This process, with the version of its code."""
    return Process(id, kind, __version__, NUMBER)


def stop_this_process() -> None:
    """Stop in good order, as after a supervisor's signal."""
    os.kill(os.getpid(), signal.SIGTERM)


class Presence:
    """The lease of this process. Thread-safe."""

    def __init__(self, schema: Schema, process: Process, on_refused: Callable[[], None] = stop_this_process) -> None:
        self._schema, self._process = schema, process
        self.on_refused = on_refused
        self.is_refused = False  # a migration has ended the use of the data by this process
        self._known: int | None = None
        self._renewed: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def look(self) -> Unavailable | None:
        """Renew the lease; returns the reason if this process may not use the data now."""
        began = time.monotonic()
        try:
            found = self._schema.announce(self._process, self._known)
        except (StoreUnavailable, RedisError) as error:
            return error if isinstance(error, StoreUnavailable) else StoreUnavailable()
        if not found.is_given:
            own = self._process.schema
            making = f", and a migration to {found.target} has begun" if found.target else ""
            return Migrating(
                f"The data has schema {found.number}{making}; this version has schema {own}. "
                "It waits; `mayfly upgrade check` has the next step."
            )
        self._known, self._renewed = found.number, began
        return None

    def is_valid(self) -> bool:
        """Whether the lease is still valid."""
        return self._renewed is not None and time.monotonic() - self._renewed < LEASE_SECONDS

    def wait(self) -> None:
        """Wait until this process may use the data; the reason is logged once."""
        logged = ""
        while (reason := self.look()) is not None:
            if reason.code != logged:
                log.warning("process.waiting", code=reason.code, detail=reason.message)
                logged = reason.code
            time.sleep(BEAT_SECONDS)

    def start(self) -> None:
        """Start the thread that renews the lease."""
        self._thread.start()

    def stop(self) -> None:
        """End the lease, after everything else of this process has stopped."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        try:
            self._schema.leave(self._process)
        except (StoreUnavailable, RedisError) as error:
            log.warning("redis.unreachable", detail=str(error))

    def begin_anew_if_refused(self) -> None:
        """Replace this process, which has stopped, by a new one with the same command line."""
        if self.is_refused:
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the words are those of this process

    def _run(self) -> None:
        while not self._stopped.wait(BEAT_SECONDS):
            reason = self.look()
            if isinstance(reason, Migrating):
                log.warning("process.refused", code=reason.code, detail=reason.message)
                self.is_refused = True
                self.on_refused()
                return
