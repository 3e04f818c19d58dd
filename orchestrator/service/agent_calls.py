"""Agents' calls that a later message of the client may cancel."""

from __future__ import annotations

import json
from contextlib import suppress

from orchestrator.errors import AlreadyFinished, NotFound, StoreUnavailable
from orchestrator.identity import Principal
from orchestrator.identity.authorization import AGENTS, authorize
from orchestrator.service import Service
from orchestrator.store import Store

MARGIN_SECONDS = 30.0  # beyond the wait of a call, for its answer


class AgentCalls:
    """Calls and cancellations of one installation, over one store. Thread-safe."""

    def __init__(self, store: Store, service: Service) -> None:
        self._calls, self._service = store.agent_calls, service

    def begin(self, principal: Principal, call: str, execution: str, wait_seconds: float) -> None:
        """Register an execution for the time of its call; a cancellation that came first cancels the execution."""
        if self._calls.begin(principal.tenant, _named(principal, call), execution, wait_seconds + MARGIN_SECONDS):
            self._stop(principal, execution)

    def end(self, principal: Principal, call: str) -> None:
        """Remove a call. If Redis is unavailable, the call expires."""
        with suppress(StoreUnavailable):
            self._calls.end(principal.tenant, _named(principal, call))

    def cancel(self, principal: Principal, call: str) -> None:
        """Cancel the execution of a call. Raises :class:`Forbidden`; no effect for an unknown call."""
        authorize(principal, AGENTS["notifications/cancelled"])
        execution = self._calls.cancel(principal.tenant, _named(principal, call))
        if execution is not None:
            self._stop(principal, execution)

    def _stop(self, principal: Principal, execution: str) -> None:
        with suppress(NotFound, AlreadyFinished):
            self._service.cancel(principal, execution)


def call_of(session: str, request_id: str | int) -> str:
    """The name of a call, unique for session and id; a number and the same number as text differ."""
    return json.dumps([session, request_id])


def _named(principal: Principal, call: str) -> str:
    """The name of a call among its tenant's calls, with the principal: another key cannot cancel the call."""
    return json.dumps([principal.id, call])
