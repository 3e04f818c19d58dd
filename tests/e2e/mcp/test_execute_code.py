"""Agents run programs in containers: results, progress, and what a cancelled call leaves."""

from __future__ import annotations

import pytest

from tests.builders.mcp_calls import ERAS, Agent
from tests.harness import Stack


@pytest.mark.parametrize("era", ERAS)
def test_program_runs_and_its_output_comes_back(stack: Stack, era: str) -> None:
    found = Agent(stack, era).call("execute_code", code="print(6 * 7)")
    assert not found["isError"]
    assert "42" in found["content"][0]["text"]
    structured = found["structuredContent"]
    assert structured["state"] == "succeeded"
    assert stack.show(structured["execution_id"])["stdout"] == "42\n"


@pytest.mark.parametrize("era", ERAS)
def test_progress_has_states_and_the_newest_line(stack: Stack, era: str) -> None:
    code = "import time\nfor n in range(3):\n    print('line', n, flush=True)\n    time.sleep(1)"
    params = {"name": "execute_code", "arguments": {"code": code}, "_meta": {"progressToken": "token"}}
    *notes, answer = Agent(stack, era).messages("tools/call", params)
    assert answer["result"]["structuredContent"]["state"] == "succeeded"
    assert {note["method"] for note in notes} == {"notifications/progress"}
    assert {note["params"]["progressToken"] for note in notes} == {"token"}
    steps = [note["params"]["progress"] for note in notes]
    assert steps == sorted(set(steps))
    shown = [note["params"]["message"] for note in notes]
    assert shown[0] == "queued"
    assert "running: line 1" in shown
    assert shown[-1] == "done: succeeded"
