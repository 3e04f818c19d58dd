"""Calls that wait for a place keep no output: a tenant may have hundreds of them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.mcp.arguments import GetExecution, ReadOutput
from orchestrator.mcp.executing import get_execution
from orchestrator.mcp.outputs.reading import read_output
from orchestrator.mcp.progress import Progress
from orchestrator.models import Execution
from orchestrator.settings import Settings
from tests.builders.records import specification

ID = "0" * 32
CALLER: Any = SimpleNamespace(tenant="t", principal=None, carrier="text", clean=lambda: None)


class Busy:
    """The use cases of an API in which no place is free. ``read`` are the outputs that were read."""

    def __init__(self) -> None:
        self.settings, self.wakeups = Settings(), SimpleNamespace(ends=lambda id: nullcontext())
        self.results = SimpleNamespace(get=self._get, output=self._output)
        self.threads = SimpleNamespace(run=self._at_once)
        self.readings = self.images = SimpleNamespace(run=self._never)
        self.read: list[weakref.ref[Execution]] = []
        self.waits = asyncio.Event()

    def _get(self, principal: Any, id: str) -> Execution:
        found = Execution.queued(specification()).model_copy(update={"state": "succeeded", "stdout": "x" * 2**20})
        self.read.append(weakref.ref(found))
        return found

    def _output(self, principal: Any, id: str, name: str) -> bytes:
        raise AssertionError("an output is read without a place")

    async def _at_once(self, tenant: str, call: Callable[[], Any]) -> Any:
        return call()

    async def _never(self, tenant: str, call: Callable[[], Any]) -> Any:
        self.waits.set()
        await asyncio.Event().wait()


def looked_at(parts: Any) -> Coroutine[Any, Any, Any]:
    return get_execution(parts, CALLER, GetExecution(execution_id=ID), Progress(None))


def read(parts: Any) -> Coroutine[Any, Any, Any]:
    return read_output(parts, CALLER, ReadOutput(execution_id=ID))


@pytest.mark.parametrize("called", [looked_at, read])
def test_call_that_waits_for_a_place_keeps_no_output(called: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
    async def waiting() -> None:
        parts = Busy()
        call = asyncio.create_task(called(parts))
        come = asyncio.create_task(parts.waits.wait())
        await asyncio.wait([call, come], return_when=asyncio.FIRST_COMPLETED)
        assert not call.done(), call
        gc.collect()
        assert [one() for one in parts.read] == [None] * (called is looked_at)
        call.cancel()

    asyncio.run(waiting())
