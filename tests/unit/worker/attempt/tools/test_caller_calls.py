"""Calls of tools of the caller are checked in the worker against the signed specification."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.models import Specification
from orchestrator.models.tools import CALLER, CallerTool, ToolCall, ToolFailure
from tests.builders.records import specification
from tests.builders.tools.caller_calls import LOOKUP
from worker.attempt.tools.caller_calls import CallerCalls, checked
from worker.attempt.tools.cost import MOST_SECONDS, Cost

HIDDEN = CallerTool.model_validate({**LOOKUP, "name": "other"})


def specified(*tools: Any) -> Specification:
    return specification().model_copy(update={"tools": tuple(tools)})


def call(tool: str = "lookup", arguments: str = '{"key":"a"}') -> ToolCall:
    return ToolCall(
        id="c", tenant="t", server=CALLER, tool=tool, arguments=arguments, reply_to="w", expires_at=datetime.now(UTC)
    )


def failure(specification: Specification, call: ToolCall) -> ToolFailure:
    found = checked(specification, call)
    assert isinstance(found, ToolFailure)
    return found


MINE = specified("github.*", CallerTool.model_validate(LOOKUP))


def test_call_with_valid_arguments_is_made_as_checked() -> None:
    made = call()
    assert checked(MINE, made) == made
    twice = checked(MINE, call(arguments='{"key": "a",  "key": "b"}'))
    assert isinstance(twice, ToolCall)
    assert twice.arguments == '{"key":"b"}'


@pytest.mark.parametrize("name", ["lookups", "github.x", "", "other"])
def test_tool_that_the_submission_does_not_define_is_unknown(name: str) -> None:
    assert failure(MINE, call(name)).code == "tool_unknown"
    assert failure(specified("*"), call("lookup")).code == "tool_unknown"


def test_similar_name_is_suggested_from_the_submission_alone() -> None:
    found = failure(MINE, call("lookpu"))
    assert found.did_you_mean == ("caller.lookup",)
    assert "other" not in found.model_dump_json()
    assert isinstance(checked(specified(HIDDEN), call("other")), ToolCall)  # the control: another execution has it


@pytest.mark.parametrize("arguments", ['{"key": 1}', "{}", '{"kye": "a"}', "[]", "nonsense", '{"key": "a", "x": NaN}'])
def test_invalid_arguments_are_refused_with_the_parameters(arguments: str) -> None:
    found = failure(MINE, call(arguments=arguments))
    assert found.code == "tool_arguments_invalid"
    assert "key" in found.valid_parameters or "read" in found.message


def test_checks_of_an_attempt_take_a_bounded_cpu_time() -> None:
    """Schema and arguments come from strangers: small ones can use all the steps of a check up."""
    doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    schema = {"type": "object", "$defs": {**doubling, "d40": {}}, "properties": {"a": {"$ref": "#/$defs/d0"}}}
    slow = CallerTool.model_validate({"name": "slow", "inputSchema": schema})
    both = specified(slow, CallerTool.model_validate(LOOKUP))
    calls, began, codes = CallerCalls(both, Cost()), time.thread_time(), []
    for _ in range(8):
        found = calls.checked(call("slow", '{"a": 1}'))
        assert isinstance(found, ToolFailure)
        codes.append(found.code)
    once = (time.thread_time() - began) / codes.count("tool_arguments_invalid")
    assert codes[-1] == "tool_denied"  # which is reported
    assert time.thread_time() - began < MOST_SECONDS + 2 * once
    assert isinstance(calls.checked(call()), ToolFailure)
    assert isinstance(CallerCalls(both, Cost()).checked(call()), ToolCall)  # the control: another attempt
