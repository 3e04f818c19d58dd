"""The calls of older clients that are registered for a cancellation by message."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest

from orchestrator.identity import Principal
from orchestrator.mcp import executing
from orchestrator.mcp.parts import Caller

WAIT = 30.0


class Calls:
    """Registered calls, and an event for the first."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str, float]] = []
        self.ended: list[str] = []
        self.is_begun, self.is_ended = threading.Event(), threading.Event()

    def begin(self, principal: Principal, call: str, execution: str, wait_seconds: float) -> None:
        self.begun.append((call, execution, wait_seconds))
        self.is_begun.set()

    def end(self, principal: Principal, call: str) -> None:
        self.ended.append(call)
        self.is_ended.set()


class Given:
    """The part that registers calls."""

    def __init__(self) -> None:
        self.agent_calls = Calls()


def registered(call: str | None, until: str = "") -> Calls:
    """The calls that are registered while a call waits: for nothing, or until its own registration."""
    given = Given()
    caller = Caller(Principal(id="key:k", key_id="k", tenant="t", scopes=frozenset()), lambda: None, call=call)

    async def wait() -> None:
        with executing.cancellable(cast(Any, given), caller, "e", WAIT):
            if until:
                await asyncio.to_thread(given.agent_calls.is_begun.wait, 20)
        caller.afterwards.begin()
        if until:
            await asyncio.to_thread(given.agent_calls.is_ended.wait, 20)
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(wait())
    return given.agent_calls


def test_short_call_is_not_registered() -> None:
    found = registered("c")
    assert (found.begun, found.ended) == ([], [])


def test_long_call_is_registered_until_its_answer_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executing, "SHORT_SECONDS", 0.001)
    found = registered("c", "begun")
    assert (found.begun, found.ended) == ([("c", "e", WAIT)], ["c"])


def test_call_without_a_session_is_not_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executing, "SHORT_SECONDS", 0.0)
    found = registered(None)
    assert found.begun == []
