"""The API of a process that may not use the data: it answers that it waits, and reads and writes nothing.

``WaitingServer`` serves while the process waits for its lease (``store/platform/presence.py``), within the bounds on
connections of the whole API. ``Gate`` stands before the whole API, and refuses requests while the lease may have ended.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.api.door.connections import Connection
from orchestrator.api.door.table import Bounds, ConnectionTable
from orchestrator.api.problems import MEDIA_TYPE, problem_of
from orchestrator.errors import StoreUnavailable, Unavailable
from orchestrator.service.presence import Presence
from orchestrator.settings import Settings

LIVE = ("/livez", "/healthz")
GUARDED = ("/api/v1/", "/mcp")
TICKS_PER_BEAT = 10  # the server's ticks come each tenth of a second


def refusal(error: Unavailable) -> JSONResponse:
    """The problem of a request that is refused before it reaches the API."""
    id = secrets.token_hex(16)
    headers = {"Retry-After": str(error.retry_after_seconds), "X-Request-Id": id, "Cache-Control": "no-store"}
    problem = {**problem_of(error, id), "checks": {error.code: error.message}}
    return JSONResponse(problem, error.status, headers, MEDIA_TYPE)


class Gate:
    """Passes requests to the API while the lease of this process is valid."""

    def __init__(self, app: ASGIApp, presence: Presence) -> None:
        self._app, self._presence = app, presence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and scope["path"].startswith(GUARDED)
        if guarded and not self._presence.is_valid():
            await refusal(StoreUnavailable())(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class WaitingServer(uvicorn.Server):
    """Serves 503 with the reason, but for liveness: a restart would not help. Ends with permission, or by a signal."""

    def __init__(self, settings: Settings, presence: Presence, reason: Unavailable) -> None:
        config = uvicorn.Config(
            self._answer,
            host=settings.api_host,
            port=settings.api_port,
            interface="asgi3",
            lifespan="off",
            http=partial(Connection, ConnectionTable(Bounds.of(settings))),  # type: ignore[arg-type] # as in __main__
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
        )
        super().__init__(config)
        self._presence, self._reason = presence, reason

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_PER_BEAT == 0:
            reason = await asyncio.to_thread(self._presence.look)
            if reason is None:
                return True
            self._reason = reason
        return await super().on_tick(counter)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        live = scope["path"] in LIVE
        await (JSONResponse({"status": "ok"}) if live else refusal(self._reason))(scope, receive, send)
