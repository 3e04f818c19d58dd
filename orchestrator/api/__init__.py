"""The composition root of the API: settings in, an ASGI application out."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from orchestrator import __version__
from orchestrator.api import problems
from orchestrator.api.dependencies import Parts
from orchestrator.api.document import Api
from orchestrator.api.door.floods import Floods
from orchestrator.api.door.in_flight import InFlight
from orchestrator.api.door.uploads import Traffic
from orchestrator.api.middleware import Edge
from orchestrator.api.routes import executions, platform, results, security, stdin, streams
from orchestrator.errors import TooManyStreams
from orchestrator.service.composition import open_use_cases
from orchestrator.settings import Settings


def create_app(settings: Settings) -> Edge:
    """The API for one process. The application contacts nothing before its lifespan begins, and then tolerates an
    unavailable Redis.
    """
    cases = open_use_cases(settings)
    service, wakeups, janitor = cases.service, cases.wakeups, cases.janitor

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await wakeups.start()
        janitor.start()
        service.policy.start()
        gc.collect()
        gc.freeze()  # permanent objects are excluded from collections, each of which would block all requests for 60 ms
        try:
            yield
        finally:
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
        InFlight((settings.streams, TooManyStreams)),
        Traffic(settings),
        Floods(cases.reports),
    )
    problems.install(app)
    for module in (executions, stdin, results, streams, security, platform):
        app.include_router(module.router)
    return Edge(app, settings)
