"""Checks of calls: what one tenant's calls cost delays no other tenant's."""

from __future__ import annotations

import asyncio
import threading

from orchestrator.broker.checks import Checks, Owner
from orchestrator.models.tools import Catalogue, ToolFailure
from orchestrator.store.tools.calls import TakenCall
from orchestrator.store.tools.sealing import seal_call
from tests.builders.records import KEY
from tests.builders.tool_calls import tool_call

MORE_THAN_THREADS = 100  # of the event loop's executor


def taken(tenant: str) -> TakenCall:
    """A direct call of a tool that there is not."""
    call = tool_call(tenant=tenant)
    return TakenCall(call, seal_call(call, KEY))


def test_suggestions_for_one_tenant_leave_threads_for_the_others() -> None:
    reading, go_on = threading.Event(), threading.Event()
    readers: list[str] = []

    def catalogues(tenant: str) -> tuple[Catalogue, ...]:
        readers.append(tenant)
        if tenant == "slow":
            reading.set()
            assert go_on.wait(60)
        return ()

    async def test() -> None:
        checks = Checks(KEY, lambda id, tenant: Owner((), None), catalogues, 1000)
        slow = [asyncio.ensure_future(checks.accepted(taken("slow"), None)) for _ in range(MORE_THAN_THREADS)]
        await asyncio.to_thread(reading.wait, 60)
        try:
            found = await asyncio.wait_for(checks.accepted(taken("other"), None), 60)
            assert readers == ["slow", "other"]
        finally:
            go_on.set()
        outcomes = await asyncio.gather(*slow)
        assert all(isinstance(one, ToolFailure) and one.code == "tool_unknown" for one in (found, *outcomes))

    asyncio.run(test())
