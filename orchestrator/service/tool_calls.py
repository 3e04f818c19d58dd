"""Direct calls of tools, by clients of the API without a program."""

from __future__ import annotations

import asyncio
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field

from orchestrator.errors import ToolCallFailed
from orchestrator.identity import Principal
from orchestrator.models.frozen import Frozen
from orchestrator.models.tools import ToolCall, ToolFailure, ToolOutcome
from orchestrator.policy.allowed import check_tool, may_call
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.tools.replies import OnOutcome, Replies

GRACE_SECONDS = 2.0  # for the transfer of an outcome
LATE = ToolFailure(
    code="tool_timed_out", message="There was no answer within the call's time; the tool may have done its work."
)


class NewCall(Frozen):
    """The body of a direct call."""

    arguments: dict[str, Any] = Field(default_factory=dict, description="Arguments that match the tool's input schema.")
    timeout_seconds: float | None = Field(None, gt=0, le=3600, description="Longest wait, at most `tool_seconds`.")


class ToolCalls:
    """The direct calls of this process."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._calls, self._seconds, self._quotas = store.tools.calls, settings.tool_seconds, store.quotas
        self._replies = Replies(self._calls, settings.secret())

    def start(self) -> None:
        """Begin to receive outcomes."""
        self._replies.start()

    def stop(self) -> None:
        """Stop receiving outcomes."""
        self._replies.stop()

    async def call(self, principal: Principal, server: str, tool: str, new: NewCall) -> str:
        """Call a tool; returns the JSON text of its result. A cancellation is sent to the tool server.

        Raises :class:`ToolCallFailed`, and before the call was made :class:`NotAllowed` and :class:`StoreUnavailable`.
        """
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[ToolOutcome] = loop.create_future()
        seconds = min(self._seconds, new.timeout_seconds or self._seconds)
        call = ToolCall(
            id=secrets.token_hex(16), tenant=principal.tenant, server=server, tool=tool,
            arguments=json.dumps(new.arguments, ensure_ascii=False), reply_to=self._replies.reply_to,
            expires_at=datetime.now(UTC) + timedelta(seconds=seconds), principal=principal.id,
            key=principal.key_id,
        )  # fmt: skip

        def arrive(outcome: ToolOutcome) -> None:
            if not arrived.done():
                arrived.set_result(outcome)

        def hand_over(outcome: ToolOutcome) -> None:
            loop.call_soon_threadsafe(arrive, outcome)

        await asyncio.to_thread(self._submit, principal, call, hand_over)
        try:
            async with asyncio.timeout(seconds + GRACE_SECONDS):
                outcome = await arrived
        except TimeoutError:
            outcome = ToolOutcome(failure=LATE)
        finally:
            if not arrived.done() or arrived.cancelled():
                self._replies.forget(call.id)
                loop.run_in_executor(None, self._calls.drop, call.id)
        if outcome.failure is not None:
            raise ToolCallFailed(await asyncio.to_thread(self._shown, principal, outcome.failure))
        return outcome.result or "null"

    def _shown(self, principal: Principal, failure: ToolFailure) -> ToolFailure:
        """A failure that suggests no tool beyond the caller's bounds; its broker knows the tenant's tools alone."""
        if failure.code != "tool_unknown" or not failure.did_you_mean:
            return failure
        bounds = self._quotas.bounds(principal.tenant, principal.key_id, principal.allowed)
        names = tuple(name for name in failure.did_you_mean if may_call(bounds, name))
        return failure.model_copy(update={"did_you_mean": names})

    def _submit(self, principal: Principal, call: ToolCall, on_outcome: OnOutcome) -> None:
        bounds = self._quotas.bounds(principal.tenant, principal.key_id, principal.allowed)
        check_tool(bounds, call.server, call.tool)
        self._replies.submit(call, on_outcome)
