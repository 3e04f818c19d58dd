"""The endpoint as an ASGI application, to be mounted by the API, which authenticates each request before.

The first request loads the protocol's library and the tokenizer: they would double the API's start time, and take some
30 and 70 MB, which an API without agents does not need. The first request takes about a second longer. A thread loads
them, so the API answers other requests in the meantime; further requests of agents wait for the same load.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from anyio import TASK_STATUS_IGNORED as IGNORED
from anyio import Lock, create_task_group, sleep_forever, to_thread
from anyio.abc import TaskGroup, TaskStatus
from starlette.types import Receive, Scope, Send

from orchestrator.mcp.parts import Caller, Parts

if TYPE_CHECKING:
    from orchestrator.mcp.endpoint.eras import Eras


def load_eras(parts: Parts) -> Eras:
    """Load the library and the tokenizer."""
    from orchestrator.mcp.endpoint.eras import Eras

    eras = Eras(parts)
    gc.collect()
    gc.freeze()  # as at the API's start
    return eras


class McpDoor:
    """Serves agents; loads the protocol's library with the first request."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._loading = Lock()
        self._eras: Eras | None = None
        self._tasks: TaskGroup

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Serve until the context ends."""
        async with create_task_group() as self._tasks:
            yield
            self._tasks.cancel_scope.cancel()

    async def handle(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of an authenticated caller."""
        eras = self._eras or await self._load()
        await eras.handle(caller, scope, receive, send)

    async def _load(self) -> Eras:
        async with self._loading:
            self._eras = self._eras or await self._tasks.start(self._run_eras)
            return self._eras

    async def _run_eras(self, *, task_status: TaskStatus[Eras] = IGNORED) -> None:
        """Run the loaded library in a separate task, which ends with the API, not with the first request."""
        eras = await to_thread.run_sync(load_eras, self._parts)
        async with eras.run():
            task_status.started(eras)
            await sleep_forever()
