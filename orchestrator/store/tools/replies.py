"""Delivers outcomes to the waiting callers of this process: one thread reads, and calls back by a call's id."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress

import structlog
from redis.exceptions import RedisError

from orchestrator.errors import StoreUnavailable
from orchestrator.models.tools import ToolCall, ToolOutcome
from orchestrator.store.malformed import MALFORMED, report_malformed
from orchestrator.store.tools.calls import Calls

WAIT_SECONDS = 2.0
RETRY_SECONDS = 0.5
log = structlog.get_logger()
OnOutcome = Callable[[ToolOutcome], object]


class Replies:
    """The calls that this process waits for. ``reply_to`` is the process's name, unique and unguessable."""

    def __init__(self, calls: Calls, key: bytes) -> None:
        self.reply_to = secrets.token_hex(16)
        self._calls, self._key = calls, key
        self._waiting: dict[str, OnOutcome] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="tool-replies", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; later outcomes expire."""
        self._stopping.set()
        with suppress(StoreUnavailable, RedisError):  # then the thread does not wait either
            self._calls.wake(self.reply_to)
        self._thread.join()

    def submit(self, call: ToolCall, on_outcome: OnOutcome) -> None:
        """Queue a call whose ``reply_to`` is this process. ``on_outcome`` is called once, from the reading thread, and
        must not block. Raises as :meth:`Calls.submit`; then ``on_outcome`` is never called.
        """
        with self._lock:
            self._waiting[call.id] = on_outcome
        try:
            self._calls.submit(call, self._key)
        except BaseException:
            self.forget(call.id)
            raise

    def forget(self, *ids: str) -> None:
        """Ignore the outcomes of these calls, as after :meth:`Calls.cancel` or past their deadline."""
        with self._lock:
            for id in ids:
                self._waiting.pop(id, None)

    def _read(self) -> None:
        while not self._stopping.is_set():
            try:
                outcomes = self._calls.answered(self.reply_to, WAIT_SECONDS)
            except StoreUnavailable:
                self._stopping.wait(RETRY_SECONDS)
                continue
            except (RedisError, *MALFORMED) as error:
                report_malformed("tool outcomes", error)
                self._stopping.wait(RETRY_SECONDS)
                continue
            for id, outcome in outcomes:
                with self._lock:
                    on_outcome = self._waiting.pop(id, None)
                if on_outcome is None:
                    continue
                try:
                    on_outcome(outcome)
                except Exception:
                    log.exception("tools.outcome_not_delivered", call=id)
