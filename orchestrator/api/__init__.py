"""The composition root of the API: builds the ASGI application from the settings."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

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
    transfers,
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
from orchestrator.errors import TooManyCalls, TooManyStreams, UploadsFull
from orchestrator.identity.authorization import ROUTES
from orchestrator.mcp.door import McpDoor
from orchestrator.mcp.parts import Parts as McpParts
from orchestrator.service.composition import UseCases, open_use_cases
from orchestrator.settings import Settings

# Requests to /mcp in progress have together at most so many times the largest body: of a tenant, and in all.
LARGEST_BODIES, ALL_LARGEST_BODIES = 16, 64
# Requests are matched with routes in this order: the most frequent first.
ROUTES_IN_ORDER = (
    executions, streams, mcp, stdin, tool_results, results, security, audit, platform, tools, tool_servers, keys,
    tenants, quotas, service_accounts, users, issuers, sessions, switches, transfers,
)  # fmt: skip
UNAUTHENTICATED = PUBLIC | {"/openapi.json", mcp.METADATA, mcp.METADATA + mcp.PATH}


def create_app(settings: Settings) -> Edge:
    """The ASGI application of one API process. It connects to Redis only after its lifespan has begun, and then
    tolerates an unavailable Redis.
    """
    cases = open_use_cases(settings)
    traffic, threads = Traffic(settings), TenantThreads()
    followers = InFlight((settings.streams, TooManyStreams))
    door = None
    if settings.mcp_enabled:
        parts = McpParts(
            **vars(cases),
            threads=threads,
            readings=traffic.readings,
            images=traffic.images,
            followers=followers,
            settings=settings,
        )
        door = McpDoor(parts)

    # No interactive pages: they would load other sites' scripts into an origin where users type API keys.
    app = Api(
        title="Mayfly",
        version=__version__,
        lifespan=partial(running, cases, door),
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.parts = Parts(
        **vars(cases),
        followers=followers,
        traffic=traffic,
        floods=Floods(cases.reports),
        mcp_calls=InFlight((settings.mcp_calls, TooManyCalls)),
        mcp_bytes=InFlight(
            (LARGEST_BODIES * settings.mcp_body_bytes, TooManyCalls),
            (ALL_LARGEST_BODIES * settings.mcp_body_bytes, UploadsFull),
        ),
        threads=threads,
        mcp=door,
    )
    problems.install(app)
    for module in ROUTES_IN_ORDER:
        # `include_router` would match each request twice: with the routers, then with the routes of one.
        app.router.routes += module.router.routes
    check_actions(app)
    return Edge(app, settings)


@asynccontextmanager
async def running(cases: UseCases, door: McpDoor | None, app: FastAPI) -> AsyncIterator[None]:
    """The lifespan of an application: runs the background threads of its use cases."""
    await cases.wakeups.start()
    cases.janitor.start()
    cases.sealer.start()
    cases.service.policy.start()
    cases.tool_calls.start()
    agents = AsyncExitStack()
    if door is not None:
        await agents.enter_async_context(door.run())
    gc.collect()
    gc.freeze()  # excludes permanent objects from collections, each of which would block all requests for 60 ms
    try:
        yield
    finally:
        await agents.aclose()
        cases.janitor.stop()
        cases.sealer.stop()
        cases.service.policy.stop()
        cases.tool_calls.stop()
        await cases.wakeups.stop()


def check_actions(app: FastAPI) -> None:
    """Raise ``RuntimeError`` unless the routes and the table of actions have the same routes."""
    served = {
        f"{method} {route.path_format}"
        for route in iter_route_contexts(app.routes)
        if route.path not in UNAUTHENTICATED
        for method in route.methods or ()
    }
    if served != ROUTES.keys():
        raise RuntimeError(f"Routes and table of actions differ: {sorted(served ^ ROUTES.keys())}")
