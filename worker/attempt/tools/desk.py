"""The tools of every attempt on this worker: one thread reads outcomes for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable

import structlog
from redis.exceptions import ResponseError

from orchestrator.errors import StoreUnavailable
from orchestrator.models import Specification
from orchestrator.models.tools import BUILT_IN, CALLER, ToolCall, ToolFailure, ToolOutcome
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.executions.records import Claim
from orchestrator.store.tools.replies import Replies
from worker.attempt.attempt import Attempt
from worker.attempt.incidents import Incidents
from worker.attempt.tools.caller_calls import CallerCalls
from worker.attempt.tools.calling import Calling
from worker.attempt.tools.cost import COSTLY, Cost
from worker.attempt.tools.descriptions import Description, Descriptions, searched
from worker.attempt.tools.ledger import Bounds

MOST_POLICIES = 1000  # tenants
FAILURES = (StoreUnavailable, ResponseError)  # the second where Redis refuses the command
SEARCH, BOUNDS_FILE = "search_tools", "bounds.json"
log = structlog.get_logger()


class ToolDesk:
    """Gives attempts their lines. Thread-safe."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._bounds = Bounds.of(settings)
        self._wait_seconds = settings.tool_wait_seconds
        self._keep_arguments_of = frozenset(settings.tool_arguments)
        self._replies = Replies(store.tools.calls, settings.secret())
        self._descriptions = Descriptions()
        self._key = settings.secret()
        self._policies: dict[str, tuple[bytes, frozenset[str]]] = {}

    def start(self) -> None:
        """Start the thread that reads outcomes."""
        self._replies.start()

    def stop(self) -> None:
        """Stop the thread, once all attempts have ended."""
        self._replies.stop()

    def wait_seconds(self, specification: Specification) -> float | None:
        """The seconds that the program may wait for tools beyond its wall time; ``None`` without tools."""
        return self._wait_seconds if specification.tools else None

    def files(self, specification: Specification) -> dict[str, str]:
        """The files under ``/tools`` by their paths below it; none without tools.

        Raises :class:`StoreUnavailable`.
        """
        if not specification.tools:
            return {}
        bounds = {"at_once": self._bounds.at_once, "request_bytes": self._bounds.request_bytes}
        return {BOUNDS_FILE: json.dumps(bounds), **self._description(specification).files}

    def line(
        self,
        claim: Claim,
        specification: Specification,
        attempt: Attempt,
        send: Callable[[bytes, float], None],
        incidents: Incidents,
    ) -> Calling | None:
        """The line of an attempt; ``None`` without tools."""
        if not specification.tools:
            return None
        door = AttemptDoor(self._store, self._replies, claim, specification, attempt, self._description)
        tenant = specification.tenant
        keeps_arguments = not {"*", tenant}.isdisjoint(self._keep_arguments_of)
        return Calling(claim, tenant, self._bounds, door, send, incidents, keeps_arguments)

    def _description(self, specification: Specification) -> Description:
        tools, tenant = self._store.tools, specification.tenant
        shapes, destructive = tools.shapes.of(tenant), self._destructive(tenant)
        return self._descriptions.of(tools.catalogues.of(tenant), specification, shapes, destructive)

    def _destructive(self, tenant: str) -> frozenset[str]:
        """The servers whose destructive tools the tenant's programs may call; read again when a declaration changed."""
        version = self._store.tools.servers.version()
        known = self._policies.get(tenant)
        if known is None or known[0] != version:
            if len(self._policies) >= MOST_POLICIES:
                self._policies.clear()
            found = self._store.tools.servers.destructive(tenant, self._key)
            known = self._policies[tenant] = version, found
        return known[1]


class AttemptDoor:
    """The way from one attempt to the tools of its tenant."""

    def __init__(
        self,
        store: Store,
        replies: Replies,
        claim: Claim,
        specification: Specification,
        attempt: Attempt,
        describe: Callable[[Specification], Description],
    ) -> None:
        self._store, self._replies, self._describe = store, replies, describe
        self._claim, self._specification, self._attempt = claim, specification, attempt
        self._cost = Cost()
        self._caller_calls = CallerCalls(specification, self._cost)
        self._used = False
        self.reply_to = replies.reply_to

    def submit(self, call: ToolCall, on_outcome: Callable[[ToolOutcome], None]) -> None:
        """Submit a call. Before a call that must not be made twice, record that the attempt must not be repeated.

        A broker checks calls of tool servers; this method checks calls of the caller's tools.
        """
        if call.server == CALLER:
            found = self._caller_calls.checked(call)
            if isinstance(found, ToolFailure):
                on_outcome(ToolOutcome(failure=found))
                return
            call = found
        self._used = True
        if self._attempt.may_repeat and not self._is_idempotent(call):
            self._attempt.may_repeat = False
        self._replies.submit(call, on_outcome)

    def built_in(self, tool: str, arguments: str) -> ToolOutcome:
        """The outcome of a call of ``mayfly``, the worker's own tool server."""
        if tool != SEARCH:
            return ToolOutcome(failure=ToolFailure(code="tool_unknown", message=f"There is no tool {BUILT_IN}.{tool}."))
        if self._cost.is_used_up:
            return ToolOutcome(failure=COSTLY)
        try:
            with self._cost.charged():
                return searched(self._describe(self._specification), arguments)
        except StoreUnavailable as error:
            return ToolOutcome(failure=ToolFailure(code="tool_unavailable", message=error.message))

    def forget(self, call: ToolCall) -> None:
        """Stop waiting for a call, and cancel it."""
        self._replies.forget(call.id)
        try:
            self._store.tools.calls.drop(call.id)
        except FAILURES as error:  # the call expires
            log.warning("tool_call.not_cancelled", call=call.id, detail=str(error))

    def cancel(self) -> None:
        """Cancel the attempt's open calls."""
        if not self._used:
            return
        try:
            self._store.tools.calls.cancel(self._claim.id, self._claim.attempt)
        except FAILURES as error:  # brokers drop calls of an attempt that has ended
            log.warning("tool_calls.not_cancelled", execution=self._claim.id, detail=str(error))

    def _is_idempotent(self, call: ToolCall) -> bool:
        for catalogue in self._store.tools.catalogues.of(self._specification.tenant):
            if catalogue.server == call.server:
                return any(tool.name == call.tool and tool.hints.idempotent for tool in catalogue.tools)
        return False
