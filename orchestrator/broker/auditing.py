"""Entries of the audit log about calls of tools, by programs and by clients alike.

A call that is made has its entry before the tool server is asked: without the entry it is not made, so no kill of a
broker leaves a call without an entry. Its outcome is in the broker's log, and in the record of its execution. Refusals
are written at 1, 10, 100 … of a principal within a minute, as all others are.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import structlog
from redis.exceptions import RedisError

from orchestrator.audit import Writer
from orchestrator.errors import StoreUnavailable
from orchestrator.models.tools import Tool, ToolCall, ToolFailure
from orchestrator.store import Store, scripts
from orchestrator.store.security import milestone
from orchestrator.tools.grants import is_destructive

ACTION = "tool.call"  # as the table of permissions names it
REFUSED = ("tool_denied", "tool_unknown")
LOST = ToolFailure(
    code="tool_outcome_unknown", message="Another broker took the call over before it was made by this broker."
)
UNWRITTEN = ToolFailure(
    code="tool_unavailable", message="The call cannot be entered in the audit log now, so it was not made."
)
FAILURES = (StoreUnavailable, RedisError)  # the second of keys with another type
log = structlog.get_logger()
Audited = Literal["refused", "destructive", "all"]


class Caller(NamedTuple):
    """The principal of a direct call, or of the execution that calls."""

    id: str | None
    tenant: str


class CallAudit:
    """The entries of one broker. Every method blocks, for threads."""

    def __init__(self, store: Store, broker: str, key: bytes, audited: Audited) -> None:
        self._store, self._broker, self._audited = store, broker, audited
        self._writer = Writer(key)
        self._append = store.redis.script(scripts.APPEND_AUDIT)

    def is_audited(self, tool: Tool) -> bool:
        """Whether each call of a tool is an entry."""
        return is_audited(self._audited, tool)

    def begin(self, call: ToolCall, principal: str | None) -> ToolFailure | None:
        """Write the entry of a call that is about to be made; the failure of a call that must not be made."""
        entry = self._writer.entry(
            Caller(principal, call.tenant), ACTION, _resource(call), owner=call.tenant, execution=call.execution
        )
        try:
            return None if self._store.tools.calls.begin(self._broker, call.id, entry) else LOST
        except FAILURES as error:
            log.error("tools.call_not_audited", call=call.id, detail=str(error))
            return UNWRITTEN

    def refused(self, call: ToolCall, principal: str | None, failure: ToolFailure) -> None:
        """Count a refused call, and write it at milestones. ``principal`` None: the caller is unknown."""
        try:
            subject, count = self._store.security.count("tool_refused", principal or call.tenant)
            if not milestone(count):
                return
            entry = self._writer.entry(
                Caller(principal, call.tenant) if principal and subject else None, ACTION, _resource(call),
                owner=call.tenant, outcome="refused", code=failure.code, count=count, execution=call.execution,
            )  # fmt: skip
            self._append(args=[entry])
        except FAILURES as error:
            log.error("tools.call_not_audited", call=call.id, detail=str(error))


def is_audited(audited: Audited, tool: Tool) -> bool:
    """Whether each call of a tool is an entry, by the setting."""
    return audited == "all" or (audited == "destructive" and is_destructive(tool))


def _resource(call: ToolCall) -> str:
    return f"tool/{call.server}.{call.tool}"
