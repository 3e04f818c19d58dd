"""The shapes of earlier results, for signatures of tools without an output schema."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict

import structlog

from orchestrator.errors import StoreUnavailable
from orchestrator.models.tools import Tool, ToolOutcome
from orchestrator.store.tools.shapes import Shapes
from orchestrator.tools.seen import observed
from orchestrator.tools.signatures import is_untyped

WATCHED_RESULTS = 20  # of one tool, in one process, which suffice for a stable shape
MOST_CHARACTERS = 256 * 1024  # of an examined result
MOST_TOOLS = 10_000
log = structlog.get_logger()


class ShapeWatch:
    """The tools whose results were watched. Used in one event loop; reading and writing takes place in threads."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._watched: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    def note(self, tenant: str, tool: Tool, outcome: ToolOutcome) -> None:
        """Add an outcome to the shape, without delay for the call."""
        result, key = outcome.result, (tenant, tool.full_name)
        if result is None or len(result) > MOST_CHARACTERS or not is_untyped(tool):
            return
        count = self._watched.get(key, 0)
        if count >= WATCHED_RESULTS:
            return
        self._watched[key] = count + 1
        while len(self._watched) > MOST_TOOLS:
            self._watched.popitem(last=False)
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._observe, tenant, tool.full_name, result))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _observe(self, tenant: str, full_name: str, result: str) -> None:
        try:
            known = self._shapes.of(tenant).shapes.get(full_name)
            shape = observed(known, json.loads(result))
            if shape != known and not self._shapes.put(tenant, full_name, shape):
                log.info("tools.shape_not_observed", tool=full_name, error="no room")
        except (StoreUnavailable, ValueError, RecursionError) as error:  # only a hint is lost; the call has succeeded
            log.info("tools.shape_not_observed", tool=full_name, error=type(error).__name__)
