"""One tool server of a broker: its connection, its catalogue, its restarts and its bounded calls.

Theory of operation. A task keeps the connection: it connects, lists the tools, publishes the catalogue, and lists again
when the server reports a change, when the refresh is due, or when a call found the connection broken. When the
connection ends, the task connects again, after a pause that grows with consecutive failures. The pauses between lists
grow in the same way if the server repeatedly reports changes. Calls are separate tasks and use the existing connection
without waiting: while the server starts, or restarts after a failure, the broker takes no calls for it; when the server
is down, calls fail at once. Everything here runs in one event loop, except :meth:`Upstream.room`,
:meth:`Upstream.begin` and :meth:`Upstream.state`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from orchestrator import metrics
from orchestrator.broker.links.launching import UNCONFINED
from orchestrator.broker.links.link import Link, LinkFailed, OpenLink, failed
from orchestrator.broker.upstreams import catalogue as catalogues
from orchestrator.broker.upstreams.breaker import Breaker
from orchestrator.errors import StoreUnavailable, TenantStoreFull
from orchestrator.logs import printable
from orchestrator.models.tool_servers import CatalogueChange, ToolServer
from orchestrator.models.tools import Catalogue, ServerState, Tool, ToolOutcome
from orchestrator.store.tools.calls import Upstream as Name

LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.5, 60.0
STABLE_SECONDS = 30.0  # a connection that lasts so long resets the pauses
REFUSING = 1000  # calls taken together in order to refuse them
log = structlog.get_logger()


class Known(NamedTuple):
    """A server's earlier catalogue, and the changes before it, the newest first."""

    catalogue: Catalogue | None
    history: tuple[CatalogueChange, ...]


class Upstream:
    """A tool server of a tenant. ``known`` and ``publish`` read and write its catalogue; both may block, and run in
    threads. ``publish`` returns false if another broker now serves the upstream.
    """

    def __init__(
        self,
        name: Name,
        server: ToolServer,
        open_link: OpenLink,
        known: Callable[[], Known],
        publish: Callable[[Catalogue, CatalogueChange | None], bool],
        refresh_seconds: float,
        on_room: Callable[[], None] = lambda: None,
        on_state: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.server = name, server
        self._open, self._known, self._publish = open_link, known, publish
        self._refresh_seconds, self._on_room, self._on_state = refresh_seconds, on_room, on_state
        self._clock = clock
        self._link: Link | None = None
        self._catalogue: Catalogue | None = None
        self._tools: dict[str, Tool] = {}
        self._state: ServerState = "starting"
        self._detail, self._until = "", 0.0
        self._breaker = Breaker()
        self._lock = threading.Lock()
        self._active = 0
        self.releasing = self.closing = False
        self.slow_check = asyncio.Lock()  # one at a time for each server, for fair shares

    # For the thread that takes calls.

    def state(self) -> ServerState:
        """``starting`` (also during a reconnection), ``ready``, ``down`` or ``quarantined``."""
        return self._state

    def room(self) -> int:
        """The number of calls that may be taken now."""
        if self.releasing or self._state == "starting" or (self._state == "ready" and self._is_closed()):
            return 0
        return self.server.concurrency - self._active if self._state == "ready" else REFUSING

    def _is_closed(self) -> bool:
        """Whether the connection has ended, and the next one is about to be opened."""
        return getattr(self._link, "closed", False)

    def begin(self, count: int) -> None:
        """Count calls that were taken; each ends with :meth:`end`."""
        with self._lock:
            self._active += count

    def end(self) -> None:
        """Count the end of a call."""
        with self._lock:
            self._active -= 1
        self._on_room()

    @property
    def active(self) -> int:
        """The number of open calls."""
        return self._active

    # Calls.

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools as last listed."""
        return self._catalogue.tools if self._catalogue else ()

    def tool(self, name: str) -> Tool | None:
        """The tool of that name."""
        return self._tools.get(name)

    async def call(self, tool: Tool, arguments: dict[str, Any], seconds: float) -> ToolOutcome:
        """Make one call, once; never raises, except when cancelled."""
        link, now = self._link, self._clock()
        if link is None:
            return failed("tool_unavailable", f"The tool server {self.name.server} is down. {self._again(now)}")
        if not self._breaker.allows(now):
            left = self._breaker.seconds_left(now)
            message = f"Calls of the tool server {self.name.server} keep failing; the next is tried in {left:.0f} s."
            return failed("tool_unavailable", message)
        outcome = await link.call(tool, arguments, min(seconds, self.server.call_seconds))
        if getattr(link, "breaks", True):
            self._breaker.record(outcome.failure.code if outcome.failure else None, self._clock())
        return outcome

    def _again(self, now: float) -> str:
        return f"The broker connects again in {max(0.0, self._until - now):.0f} s."

    # The connection.

    async def run(self) -> None:
        """Keep the server connected until cancelled. Set ``closing`` before: a library's error at the end of a session
        can replace the cancellation, and then only ``closing`` ends the task.
        """
        pause = 0.0
        try:
            while True:
                began = self._clock()
                try:
                    await self._connected()
                except LinkFailed as failure:
                    detail = printable(str(failure), 500)
                except (StoreUnavailable, TenantStoreFull) as error:
                    detail = printable(f"{error.code}: {error.message}", 500)
                except Exception as error:
                    log.exception("tools.upstream_failed", **self._labels)
                    detail = f"internal error: {type(error).__name__}"
                if self.closing:
                    return
                if self._clock() - began > STABLE_SECONDS:
                    pause = 0.0
                self._link = None
                pause = min(MOST_PAUSE_SECONDS, 2 * pause) if pause else LEAST_PAUSE_SECONDS
                self._until = self._clock() + pause
                log.warning("tools.upstream_lost", **self._labels, detail=detail, pause_seconds=pause)
                metrics.tool_upstream_failures.inc()
                if pause > LEAST_PAUSE_SECONDS:
                    try:
                        await self._down(detail)
                    except StoreUnavailable as error:  # the next failure is published again
                        log.warning("tools.catalogue_not_written", **self._labels, detail=error.message)
                else:
                    self._state = "starting"
                await asyncio.sleep(pause)
        finally:
            self._link = None

    async def _connected(self) -> None:
        async with self._open(self.name.tenant, self.server) as link:
            tools = await link.list_tools()
            self._link = link
            await self._take_over(link, tools)
            pause = 0.0
            while True:
                began = self._clock()
                await link.changed(self._refresh_seconds)
                asked_for = self._clock() - began < min(self._refresh_seconds, STABLE_SECONDS)
                await self._take_over(link, await link.list_tools())
                pause = min(MOST_PAUSE_SECONDS, max(LEAST_PAUSE_SECONDS, 2 * pause)) if asked_for else 0.0
                await asyncio.sleep(pause)  # a list can have megabytes, and a server may report changes without end

    async def _take_over(self, link: Link, listed: tuple[Tool, ...]) -> None:
        """Publish what a server has, unless nothing changed."""
        known = await asyncio.to_thread(self._known)
        tools = catalogues.selected(self.server, listed)
        await asyncio.sleep(0)  # calls of other servers continue between the steps, of up to 20 ms each for 2 MiB
        found = catalogues.digest(tools)
        await asyncio.sleep(0)
        accepted = catalogues.is_accepted(self.server, found, known.catalogue, known.history)
        left_out = getattr(link, "left_out", 0)
        warning = UNCONFINED if self.server.command else ""
        surplus = catalogues.surplus(self.server, listed, tools)
        made = catalogues.catalogue(self.server, tools, found, left_out, accepted, datetime.now(UTC), warning, surplus)
        before = known.catalogue
        same = before is not None and (before.digest, before.state, before.detail) == (
            made.digest, made.state, made.detail
        )  # fmt: skip
        if not same:
            self._state = "starting"  # calls wait: a reader of the new catalogue may call its tools at once
            change = catalogues.difference(before, made)
            if not await asyncio.to_thread(self._publish, made, change):
                raise LinkFailed("another broker serves this tool server")
            log.info(
                "tools.catalogue", **self._labels, state=made.state, tools=len(tools), digest=made.digest[:12],
                added=change.added[:20] if change else (), removed=change.removed[:20] if change else (),
                changed=tuple(new.name for _, new in change.changed[:20]) if change else (),
            )  # fmt: skip
            if change is not None:
                metrics.tool_catalogue_changes.labels(made.state).inc()
        self._catalogue, self._tools = made, {tool.name: tool for tool in made.tools}
        self._state = made.state
        self._on_state()

    async def _down(self, detail: str) -> None:
        """Refuse calls from now on; the tools stay in the catalogue, since the server may return before their calls."""
        self._state = "down"
        self._on_state()
        known = (await asyncio.to_thread(self._known)).catalogue
        if known is None or (known.state, known.detail) != ("down", detail):
            base = known or Catalogue(server=self.server.name, state="down", since=datetime.now(UTC))
            made = base.model_copy(update={"state": "down", "detail": detail, "since": datetime.now(UTC)})
            if known is None or known.state != "quarantined":
                await asyncio.to_thread(self._publish, made, None)

    @property
    def _labels(self) -> dict[str, str]:
        return {"tenant": self.name.tenant, "server": self.name.server}
