"""The part of the broker in its event loop: the served upstreams and the taken calls."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import structlog

from orchestrator import metrics
from orchestrator.broker.auditing import REFUSED, CallAudit
from orchestrator.broker.checks import Accepted, Checks
from orchestrator.broker.links.link import OpenLink
from orchestrator.broker.mailbox import Mailbox
from orchestrator.broker.shapes import ShapeWatch
from orchestrator.broker.upstreams.upstream import Known, Upstream
from orchestrator.models.tool_servers import CatalogueChange, ToolServer
from orchestrator.models.tools import Catalogue, ToolCall, ToolFailure, ToolOutcome
from orchestrator.store import Store
from orchestrator.store.tools.calls import UNDECLARED, Taken, TakenCall
from orchestrator.store.tools.calls import Upstream as Name

UNDECLARED_ROOM = 100
INTERNAL = ToolFailure(
    code="tool_outcome_unknown", message="The broker failed during the call; the tool may have done its work."
)
CANCELLED = ToolFailure(code="tool_cancelled", message="The call was cancelled.")
STOPPED = ToolFailure(
    code="tool_outcome_unknown",
    message="The broker stopped, or lost its lease, during the call; the tool may have done its work.",
)
log = structlog.get_logger()


class Serving:
    """The upstreams that this broker serves, and their calls. Made, and used, in a running event loop."""

    def __init__(
        self, store: Store, id: str, open_link: OpenLink, checks: Checks, audit: CallAudit, refresh_seconds: float
    ) -> None:
        self.id = id
        self._store, self._open, self._refresh_seconds = store, open_link, refresh_seconds
        self._checks, self._audit = checks, audit
        self._loop = asyncio.get_running_loop()
        self._upstreams: dict[Name, Upstream] = {}
        self._serves_undeclared = False
        self._retired: set[Upstream] = set()
        self._connections: dict[Upstream, asyncio.Task[None]] = {}
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._shapes = ShapeWatch(store.tools.shapes)
        self.mailbox = Mailbox(store.tools.calls, id, self._rooms, self._on_taken)

    # For threads.

    def _rooms(self) -> Mapping[Name, int]:
        rooms = {name: upstream.room() for name, upstream in list(self._upstreams.items())}
        if self._serves_undeclared:
            rooms[UNDECLARED] = UNDECLARED_ROOM
        return rooms

    def _on_taken(self, taken: Taken) -> None:
        calls = [(one, self._upstreams.get(Name(one.call.tenant, one.call.server))) for one in taken.calls]
        for _, upstream in calls:
            if upstream is not None:
                upstream.begin(1)
        self._loop.call_soon_threadsafe(self._start_calls, taken.cancelled, calls)

    def states(self) -> Counter[str]:
        """The number of upstreams in each state."""
        return Counter(upstream.state() for upstream in list(self._upstreams.values()))

    # For the event loop.

    def assign(self, servers: Mapping[Name, ToolServer], undeclared: bool) -> None:
        """Serve exactly these upstreams from now on; an upstream with a changed declaration is connected again.

        Open calls end on the connection on which they began.
        """
        self._serves_undeclared = undeclared
        for name in list(self._upstreams):
            if servers.get(name) != self._upstreams[name].server:
                self._retire(name)
        for name, server in servers.items():
            if name not in self._upstreams:
                self._start(name, server)
        self.mailbox.look()

    def release_only(self, names: frozenset[Name]) -> None:
        """Take no more calls of these upstreams, which will move to other brokers."""
        for name, upstream in self._upstreams.items():
            if upstream.releasing != (name in names):
                upstream.releasing = name in names
                self.mailbox.look()

    def idle(self) -> frozenset[Name]:
        """The upstreams that take no more calls, and have no open calls."""
        return frozenset(n for n, upstream in self._upstreams.items() if upstream.releasing and not upstream.active)

    def abandon(self) -> None:
        """Abandon all calls and upstreams: the broker's lease has ended."""
        for task in list(self._calls.values()):
            task.cancel("lost")
        for upstream in list(self._connections):
            self._close(upstream)
        self._upstreams.clear()

    async def drain(self, seconds: float) -> None:
        """Wait up to ``seconds`` for open calls, settle the rest as unknown, and end every connection."""
        await asyncio.to_thread(self.mailbox.stop_taking)
        if self._calls:
            await asyncio.wait(list(self._calls.values()), timeout=seconds)
        for task in list(self._calls.values()):
            task.cancel("stopped")
        connections = list(self._connections.values())
        for upstream in list(self._connections):
            self._close(upstream)
        await asyncio.gather(*self._calls.values(), *connections, return_exceptions=True)

    def _start(self, name: Name, server: ToolServer) -> None:
        tools = self._store.tools

        def known() -> Known:
            found = next((one for one in tools.catalogues.of(name.tenant) if one.server == name.server), None)
            return Known(found, tools.catalogues.history(name.tenant) if server.quarantine else ())

        def publish(catalogue: Catalogue, change: CatalogueChange | None) -> bool:
            return tools.catalogues.put(name.tenant, catalogue, self.id, change)

        room, look = self.mailbox.room, self.mailbox.look
        upstream = Upstream(name, server, self._open, known, publish, self._refresh_seconds, room, look)
        self._upstreams[name] = upstream
        self._connections[upstream] = self._loop.create_task(upstream.run(), name=f"connection to {name}")

    def _retire(self, name: Name) -> None:
        upstream = self._upstreams.pop(name)
        upstream.releasing = True
        self._retired.add(upstream)
        self._close_retired(upstream)

    def _close_retired(self, upstream: Upstream) -> None:
        if upstream in self._retired and not upstream.active:
            self._retired.discard(upstream)
            self._close(upstream)

    def _close(self, upstream: Upstream) -> None:
        if task := self._connections.pop(upstream, None):
            upstream.closing = True
            task.cancel()

    def _start_calls(self, cancelled: Sequence[str], calls: Sequence[tuple[TakenCall, Upstream | None]]) -> None:
        for id in cancelled:
            if task := self._calls.get(id):
                task.cancel("cancelled")
        for taken, upstream in calls:
            id = taken.call.id
            task = self._calls[id] = self._loop.create_task(self._handle(taken, upstream))
            task.add_done_callback(partial(self._ended, id, upstream))
        metrics.tool_calls_active.set(len(self._calls))

    def _ended(self, id: str, upstream: Upstream | None, _: asyncio.Task[None]) -> None:
        self._calls.pop(id, None)
        if upstream is not None:
            upstream.end()
            self._close_retired(upstream)
        else:
            self.mailbox.room()
        metrics.tool_calls_active.set(len(self._calls))

    async def _handle(self, taken: TakenCall, upstream: Upstream | None) -> None:
        began = time.monotonic()
        outcome = ToolOutcome(failure=INTERNAL)
        try:
            outcome = await self._outcome(taken, upstream)
        except asyncio.CancelledError as cancelled:
            outcome = ToolOutcome(failure=CANCELLED if cancelled.args == ("cancelled",) else STOPPED)
        except Exception:
            log.exception("tools.call_failed", call=taken.call.id)
        self.mailbox.settle(taken.call.id, outcome)
        _record(taken.call, self._checks.principal(taken), outcome, time.monotonic() - began)

    async def _outcome(self, taken: TakenCall, upstream: Upstream | None) -> ToolOutcome:
        accepted = await self._checks.accepted(taken, upstream)
        if isinstance(accepted, Accepted) and upstream is not None:
            outcome = await self._called(taken, upstream, accepted)
        else:
            assert isinstance(accepted, ToolFailure)  # noqa: S101 - what is accepted has an upstream
            outcome = ToolOutcome(failure=accepted)
        if outcome.failure is not None and outcome.failure.code in REFUSED:  # also by the built-in tool server
            await asyncio.to_thread(self._audit.refused, taken.call, self._checks.principal(taken), outcome.failure)
        return outcome

    async def _called(self, taken: TakenCall, upstream: Upstream, accepted: Accepted) -> ToolOutcome:
        if self._audit.is_audited(accepted.tool):
            failure = await asyncio.to_thread(self._audit.begin, taken.call, self._checks.principal(taken))
            if failure is not None:
                return ToolOutcome(failure=failure)
        left = (taken.call.expires_at - datetime.now(UTC)).total_seconds()
        if left <= 0:
            return ToolOutcome(failure=ToolFailure(code="tool_timed_out", message="The call waited for too long."))
        outcome = await upstream.call(accepted.tool, accepted.arguments, left)
        self._shapes.note(taken.call.tenant, accepted.tool, outcome)
        return outcome


def _record(call: ToolCall, principal: str | None, outcome: ToolOutcome, seconds: float) -> None:
    """Log a line for each call of a program or client: caller and tool, without arguments and results."""
    code = outcome.failure.code if outcome.failure else "ok"
    metrics.tool_calls.labels(code).inc()
    metrics.tool_seconds.observe(seconds)
    log.info(
        "tools.call", call=call.id, tenant=call.tenant, tool=f"{call.server}.{call.tool}", execution=call.execution,
        principal=principal, attempt=call.attempt, outcome=code, seconds=round(seconds, 4),
        request_bytes=len(call.arguments), response_bytes=len(outcome.result or ""),
    )  # fmt: skip
