"""Plays the worker and the program of an execution whose client fulfils its tools, on the real store of an API."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.models.tools import CALLER, ToolCall, ToolOutcome
from orchestrator.settings import Settings
from orchestrator.store import Store, open_store
from tests.builders.records import KEY, claimed, result
from tests.harness import Stack, eventually

LOOKUP: dict[str, Any] = {
    "name": "lookup",
    "inputSchema": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
    "outputSchema": {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]},
}


@contextmanager
def store_of(api: Stack) -> Iterator[Store]:
    """The store of an API's installation."""
    store = open_store(Settings(state_dir=Path(api.env["MAYFLY_STATE_DIR"]), redis_url=api.redis.url))
    try:
        yield store
    finally:
        store.redis.close()


class CallingProgram:
    """A running execution that calls tools of its client."""

    def __init__(self, store: Store, id: str, tenant: str = "default") -> None:
        self.id, self._store, self._tenant = id, store, tenant
        self._claim = claimed(store, id)
        store.records.start(self._claim, store.now())
        self.reply_to = secrets.token_hex(8)
        self._outcomes: dict[str, ToolOutcome] = {}

    @property
    def attempt(self) -> int:
        return self._claim.attempt

    def call(self, tool: str = "lookup", seconds: float = 30.0, **arguments: Any) -> str:
        """Call a tool as a worker does; returns the call's id."""
        call = ToolCall(
            id=secrets.token_hex(16), tenant=self._tenant, server=CALLER, tool=tool, arguments=json.dumps(arguments),
            reply_to=self.reply_to, expires_at=datetime.now(UTC) + timedelta(seconds=seconds), execution=self.id,
            attempt=self.attempt,
        )  # fmt: skip
        self._store.tools.calls.submit(call, KEY)
        return call.id

    def outcome(self, call_id: str) -> ToolOutcome:
        """The outcome of a call, once it is there."""

        def found() -> ToolOutcome | None:
            self._outcomes.update(self._store.tools.calls.answered(self.reply_to, 0.2))
            return self._outcomes.get(call_id)

        return eventually(found, f"call {call_id} is answered")

    def answered(self) -> dict[str, ToolOutcome]:
        """The outcomes that are there now."""
        self._outcomes.update(self._store.tools.calls.answered(self.reply_to, 0))
        return dict(self._outcomes)

    def end(self, state: str = "succeeded") -> None:
        """End the execution; its open calls are cancelled first, as by a worker."""
        self._store.tools.calls.cancel(self.id, self.attempt)
        self._store.records.commit(self._claim, result(state))
