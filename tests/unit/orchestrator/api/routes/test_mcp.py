"""Later work of an agent's request is done behind its answer."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.api.routes.mcp import Protocol
from orchestrator.identity import Principal
from orchestrator.mcp.parts import Caller

PARTS: Any = SimpleNamespace(mcp_calls=SimpleNamespace(counted=lambda tenant: nullcontext()))


class Door:
    """Leaves two pieces of work, answers, and fails if asked to."""

    def __init__(self, caller: Caller, fails: bool) -> None:
        self._caller, self._fails = caller, fails
        self.order: list[str] = []
        self.done = threading.Event()

    def work(self, name: str) -> None:
        self.order.append(f"{name} in {'the loop' if threading.current_thread() is self.loop else 'a thread'}")
        if name == "second":
            self.done.set()

    async def handle(self, caller: Caller, scope: Any, receive: Any, send: Any) -> None:
        self.loop = threading.current_thread()
        self._caller.afterwards.add(lambda: self.work("first"))
        self._caller.afterwards.add(lambda: self.work("second"))
        await asyncio.sleep(0)
        self.order.append("answer")
        if self._fails:
            raise RuntimeError("The client went away.")


@pytest.mark.parametrize("fails", [False, True])
def test_work_that_a_call_leaves_begins_behind_its_answer(fails: bool) -> None:
    caller = Caller(Principal(id="key:k", key_id="k", tenant="t", scopes=frozenset()), lambda: None)
    door: Any = Door(caller, fails)

    async def nothing(*message: Any) -> Any:
        return None

    async def answered() -> None:
        answer = Protocol(door, PARTS, caller, b"{}")
        with pytest.raises(RuntimeError) if fails else nullcontext():
            await answer({"headers": []}, nothing, nothing)
        assert await asyncio.to_thread(door.done.wait, 20)

    asyncio.run(answered())
    assert door.order == ["answer", "first in a thread", "second in a thread"]


def test_request_without_later_work_takes_no_thread() -> None:
    caller = Caller(Principal(id="key:k", key_id="k", tenant="t", scopes=frozenset()), lambda: None)
    caller.afterwards.begin()  # outside of an event loop it would fail
