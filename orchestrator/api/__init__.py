"""The composition root of the API: settings in, an ASGI application out."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from orchestrator import __version__
from orchestrator.api import problems
from orchestrator.api.dependencies import Parts, TenantThreads
from orchestrator.api.document import PUBLIC, Api
from orchestrator.api.door.floods import Floods
from orchestrator.api.door.in_flight import InFlight
from orchestrator.api.door.uploads import Traffic
from orchestrator.api.middleware import Edge
from orchestrator.api.routes import (
    executions,
    mcp,
    platform,
    results,
    security,
    stdin,
    streams,
    tool_results,
    tool_servers,
    tools,
)
from orchestrator.api.routes.administration import (
    audit,
    issuers,
    keys,
    quotas,
    service_accounts,
    sessions,
    switches,
    tenants,
    users,
)
from orchestrator.errors import TooManyCalls, TooManyStreams
from orchestrator.identity.authorization import ROUTES
from orchestrator.mcp.door import McpDoor
from orchestrator.mcp.parts import Parts as McpParts
from orchestrator.service.composition import open_use_cases
from orchestrator.settings import Settings

UNAUTHENTICATED = PUBLIC | {"/openapi.json", mcp.METADATA, mcp.METADATA + mcp.PATH}


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
        parts = McpParts(
            **vars(cases), threads=threads, readings=traffic.readings, followers=followers, settings=settings
        )
        door = McpDoor(parts)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if settings.seal_records:
            await to_thread.run_sync(cases.seal_old_records)
        await wakeups.start()
        janitor.start()
        cases.sealer.start()
        service.policy.start()
        cases.tool_calls.start()
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
            cases.sealer.stop()
            service.policy.stop()
            cases.tool_calls.stop()
            await wakeups.stop()

    # The interactive pages would load scripts from elsewhere into the origin that keys are typed into.
    app = Api(
        title="Mayfly", version=__version__, lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None
    )
    app.state.parts = Parts(
        **vars(cases),
        followers=followers,
        traffic=traffic,
        floods=Floods(cases.reports),
        mcp_calls=InFlight((settings.mcp_calls, TooManyCalls)),
        threads=threads,
        mcp=door,
    )
    problems.install(app)
    for module in (  # a request is compared with each route in turn: first those that are asked for most
        executions,
        mcp,
        stdin,
        tool_results,
        results,
        streams,
        security,
        audit,
        platform,
        tools,
        tool_servers,
        keys,
        tenants,
        quotas,
        service_accounts,
        users,
        issuers,
        sessions,
        switches,
    ):
        app.include_router(module.router)
    check_actions(app)
    return Edge(app, settings)


def check_actions(app: FastAPI) -> None:
    """Raise ``RuntimeError`` for a route without an action, and for an action's route that does not exist."""
    served = {
        f"{method} {route.path_format}"
        for route in iter_route_contexts(app.routes)
        if route.path not in UNAUTHENTICATED
        for method in route.methods or ()
    }
    if served != ROUTES.keys():
        raise RuntimeError(f"Routes and table of actions differ: {sorted(served ^ ROUTES.keys())}")
