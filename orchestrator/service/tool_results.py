"""Answers of clients to the calls of tools that they fulfil."""

from __future__ import annotations

import json

from orchestrator.errors import NotFound, ToolAnswerRefused, ToolResultTooLarge, ValidationFailed
from orchestrator.identity import Principal
from orchestrator.models.tools import CallerAnswer, ToolFailure, ToolOutcome
from orchestrator.settings import Settings
from orchestrator.states import TERMINAL, State
from orchestrator.store import Store
from orchestrator.tools.arguments import result_mistake

ENDED = ("tool_call_ended", "The program that made this call has ended, and needs no answer.")
REFUSALS = {
    "answered": ("tool_call_answered", "The call already has a different answer; the first answer counts."),
    "late": ("tool_call_expired", "The call's deadline has passed; the program got tool_timed_out."),
    "ended": ENDED,
}


class ToolResults:
    """Settles calls with the answers of clients, over one store. Thread-safe."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings

    def answer(self, principal: Principal, id: str, call_id: str, answer: CallerAnswer) -> None:
        """Send the program its result or error, once; a repetition of the same answer has no effect.

        Raises :class:`NotFound`, :class:`ToolResultTooLarge`, :class:`ValidationFailed` for a result that does not
        match the tool's output schema, :class:`ToolAnswerRefused` and :class:`StoreFull`; then nothing was written,
        and a waiting call can still be answered.
        """
        execution = self._store.records.get(id, principal.tenant)
        outcome = self._failed(answer) or self._succeeded(id, call_id, answer.result)
        found = self._store.tools.caller_calls.answer(call_id, principal.tenant, id, outcome)
        if found == "unknown":
            if State(execution.state) in TERMINAL:
                raise ToolAnswerRefused(*ENDED)
            raise NotFound(f"The execution has no open call {call_id!r} of a tool that its client fulfils.")
        if found != "ok":
            raise ToolAnswerRefused(*REFUSALS[found])

    def _failed(self, answer: CallerAnswer) -> ToolOutcome | None:
        if answer.error is None:
            return None
        return ToolOutcome(failure=ToolFailure(code=answer.error.code, message=answer.error.message))

    def _succeeded(self, id: str, call_id: str, result: object) -> ToolOutcome:
        try:
            text = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            raise ValidationFailed(
                [("result", "has a number that JSON cannot represent")], "tool_result_invalid"
            ) from None
        size, most = len(text.encode()), self._settings.tool_response_bytes
        if size > most:
            raise ToolResultTooLarge(f"The result has {size} bytes as JSON; at most {most} are accepted.", bound=most)
        schema = self._store.tools.caller_calls.output_schema(call_id, id)
        if schema is not None and (mistake := result_mistake(schema, result)):
            raise ValidationFailed([("result", f"does not match the outputSchema: {mistake}")], "tool_result_invalid")
        return ToolOutcome(result=text)
