"""The composition root of the API: settings in, an ASGI application out."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from orchestrator import __version__
from orchestrator.api import problems
from orchestrator.api.dependencies import Parts, TenantThreads
from orchestrator.api.document import Api
from orchestrator.api.door.floods import Floods
from orchestrator.api.door.in_flight import InFlight
from orchestrator.api.door.uploads import Traffic
from orchestrator.api.middleware import Edge
from orchestrator.api.routes import executions, mcp, platform, results, security, stdin, streams
from orchestrator.errors import TooManyCalls, TooManyStreams
from orchestrator.mcp.door import McpDoor
from orchestrator.mcp.parts import Parts as McpParts
from orchestrator.service.composition import open_use_cases
from orchestrator.settings import Settings


def create_app(settings: Settings) -> Edge:
    """The API for one process. The application contacts nothing before its lifespan begins, and then tolerates an
    unavailable Redis.
    """
    cases = open_use_cases(settings)
    service, wakeups, janitor = cases.service, cases.wakeups, cases.janitor
    traffic, threads = Traffic(settings), TenantThreads()
    followers = InFlight((settings.streams, TooManyStreams))
    door = None
    if settings.mcp_enabled:
        shared = (cases.operation, wakeups, threads, traffic.readings, followers, cases.reports, settings)
        door = McpDoor(McpParts(service, cases.results, *shared))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await wakeups.start()
        janitor.start()
        service.policy.start()
        agents = AsyncExitStack()
        if door is not None:
            await agents.enter_async_context(door.run())
        gc.collect()
        gc.freeze()  # permanent objects are excluded from collections, each of which would block all requests for 60 ms
        try:
            yield
        finally:
            await agents.aclose()
            janitor.stop()
            service.policy.stop()
            await wakeups.stop()

    # The interactive pages would load scripts from elsewhere into the origin that keys are typed into.
    app = Api(
        title="Mayfly", version=__version__, lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None
    )
    app.state.parts = Parts(
        service,
        cases.results,
        cases.operation,
        cases.reports,
        cases.api_keys,
        wakeups,
        cases.rate_limiter,
        followers,
        traffic,
        Floods(cases.reports),
        InFlight((settings.mcp_calls, TooManyCalls)),
        threads,
        door,
    )
    problems.install(app)
    for module in (executions, stdin, results, streams, security, platform, mcp):
        app.include_router(module.router)
    return Edge(app, settings)
