"""Progress of a call: it leaves the call's refusals as they are."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import MayflyError, NotFound, StoreUnavailable
from orchestrator.mcp.progress import Progress, Report

CALLER: Any = SimpleNamespace(tenant="t")


async def never(number: float, total: float | None, message: str | None) -> None:
    """A client that does not read its notifications."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("report", [None, never])
@pytest.mark.parametrize("error", [NotFound(), StoreUnavailable()])
def test_refusal_during_a_wait_is_the_same_with_and_without_progress(report: Report | None, error: MayflyError) -> None:
    async def call() -> None:
        parts: Any = None
        async with Progress(report).of(parts, CALLER, "0" * 32):
            await asyncio.sleep(0)  # the follower begins
            raise error

    with pytest.raises(type(error)) as raised:
        asyncio.run(call())
    assert raised.value is error


def test_cancellation_of_a_call_with_progress_passes() -> None:
    async def cancelled() -> bool:
        waiting = asyncio.Event()

        async def call() -> None:
            parts: Any = None
            async with Progress(never).of(parts, CALLER, "0" * 32):
                waiting.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(call())
        await waiting.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(cancelled())
