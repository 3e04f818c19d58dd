"""Agents run programs in containers: results, progress, and what a cancelled call leaves."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator.mcp.budget import count
from tests.builders.mcp_calls import ERAS, Agent
from tests.builders.sandboxes.pauses import Pause
from tests.harness import Stack, bearer, eventually

EXTENSION = "io.modelcontextprotocol/tasks"


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
    pauses = [Pause() for _ in range(3)]  # each until its line was shown
    code = "\n".join(f"print('line', {n}, flush=True)\n{pause.code}\n" for n, pause in enumerate(pauses))
    arguments = {"code": code, "mode": "script", "limits": {"wall_seconds": 200}}
    params = {"name": "execute_code", "arguments": arguments, "_meta": {"progressToken": "token"}}
    messages = []
    for message in Agent(stack, era).streamed("tools/call", params):
        messages.append(message)
        state, _, line = str(message.get("params", {}).get("message")).partition(": line ")
        if state == "running" and line:
            pauses[int(line)].end()
    *notes, answer = messages
    assert answer["result"]["structuredContent"]["state"] == "succeeded"
    assert {note["method"] for note in notes} == {"notifications/progress"}
    assert {note["params"]["progressToken"] for note in notes} == {"token"}
    steps = [note["params"]["progress"] for note in notes]
    assert steps == sorted(set(steps))
    shown = [note["params"]["message"] for note in notes]
    assert shown[0] == "queued"
    assert [message for message in shown if ": line " in message] == [f"running: line {n}" for n in range(3)]
    assert shown[-1] == "done: succeeded"


def test_call_of_a_revoked_key_ends_without_the_result(stack: Stack) -> None:
    key = stack.new_key("mcp", "executions:read", "executions:write")
    agent = Agent(stack, headers=bearer(key["secret"]))
    pause = Pause()
    arguments = {"code": f"{pause.code}\nprint('secret result')", "mode": "script", "limits": {"wall_seconds": 200}}
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(agent.request, "tools/call", {"name": "execute_code", "arguments": arguments})
        pause.begun()
        id = stack.client.get("/api/v1/executions", params={"limit": 1}).json()["items"][0]["id"]
        beside = pool.submit(Agent(stack).call, "get_execution", execution_id=id, wait_seconds=45)
        assert stack.client.delete(f"/api/v1/api-keys/{key['id']}").status_code == 204
        answer = call.result(timeout=50)
        assert not beside.done(), "the call ends before the wait is over"
        pause.end()  # the program has waited until now
        assert "secret result" in json.dumps(beside.result(60))
    assert "unauthenticated" in answer.text
    assert "secret result" not in answer.text
    assert agent.request("tools/list").status_code == 401


def test_call_that_outlasts_its_wait_can_be_resumed(stack: Stack) -> None:
    agent, pause = Agent(stack), Pause()
    code = f"print('begun', flush=True)\n{pause.code}\nprint('over')"
    found = agent.call("execute_code", code=code, wait_seconds=1, mode="script", limits={"wall_seconds": 90})
    id = found["structuredContent"]["execution_id"]
    assert found["structuredContent"]["state"] in ("queued", "starting", "running")
    assert "get_execution" in found["content"][0]["text"]
    pause.end()
    later = agent.call("get_execution", execution_id=id, wait_seconds=50)
    assert later["structuredContent"]["state"] == "succeeded"
    assert "over" in later["content"][0]["text"]


def test_failures_name_the_remedy(stack: Stack) -> None:
    agent = Agent(stack)
    missing = agent.call("execute_code", code="import torch")
    assert "No environment has it" in missing["content"][0]["text"]
    late = agent.call("execute_code", code="while True: pass", limits={"wall_seconds": 1})
    assert late["structuredContent"]["reason"] == "timed_out"
    assert "limits.wall_seconds" in late["content"][0]["text"]
    code = "import socket\nsocket.create_connection(('10.0.0.1', 80), 1)"

    def blocked_call() -> dict[str, Any] | None:  # on a busy machine the kernel's record may come too late for one
        found = agent.call("execute_code", code=code)
        return found if "Blocked: " in found["content"][0]["text"] else None

    blocked = eventually(blocked_call, "the blocked action is named")
    for answer in (missing, late, blocked):
        assert str(stack.directory) not in json.dumps(answer)


def test_cells_are_the_default_in_environments_with_cells(stack: Stack) -> None:
    agent = Agent(stack)
    assert "42" in agent.call("execute_code", code="6 * 7")["content"][0]["text"]
    assert "42" not in agent.call("execute_code", code="6 * 7", mode="script")["content"][0]["text"]
    assert "hello" in agent.call("execute_code", code="echo hello", environment="bash")["content"][0]["text"]


def test_task_is_the_execution(stack: Stack) -> None:
    agent = Agent(stack, capabilities={"extensions": {EXTENSION: {}}})
    made = agent.call("execute_code", code="import time\ntime.sleep(1)\nprint('done')")
    assert (made["resultType"], made["status"]) == ("task", "working")
    id = made["taskId"]
    assert stack.show(id)["id"] == id

    def completed() -> dict[str, Any] | None:
        found = agent.result("tasks/get", {"taskId": id})
        return found if found["status"] != "working" else None

    task = eventually(completed, "the task ends")
    assert task["status"] == "completed"
    assert task["result"]["structuredContent"]["execution_id"] == id
    assert "done" in task["result"]["content"][0]["text"]
    without = Agent(stack).request("tasks/get", {"taskId": id}).json()
    assert without["error"]["data"]["requiredCapabilities"]["extensions"] == {EXTENSION: {}}
    mixed = agent.request("tasks/get", {"taskId": id}, **{"Mcp-Name": "0" * 32})
    assert mixed.status_code == 400
    sleeping = agent.call("execute_code", code="import time\ntime.sleep(60)", limits={"wall_seconds": 90})
    agent.result("tasks/cancel", {"taskId": sleeping["taskId"]})
    eventually(
        lambda: agent.result("tasks/get", {"taskId": sleeping["taskId"]})["status"] == "cancelled",
        "the execution is cancelled",
    )
    assert agent.result("tasks/cancel", {"taskId": id})["resultType"] == "complete"


def test_tokens_are_counted_on_the_record_and_in_metrics(stack: Stack) -> None:
    found = Agent(stack).call("execute_code", code="for n in range(20000): print(n)", max_output_tokens=300)
    text, structured = found["content"][0]["text"], found["structuredContent"]
    id = structured["execution_id"]
    spent = count(text) + count(json.dumps(structured, ensure_ascii=False, separators=(",", ":")))
    shown = eventually(lambda: (one := stack.show(id))["tokens_returned"] and one, "the record has the tokens")
    assert 100 < spent <= 300
    assert shown["tokens_returned"] == spent
    assert shown["tokens_withheld"] > 20_000
    Agent(stack).call("get_execution", execution_id=id, max_output_tokens=300)
    eventually(lambda: stack.show(id)["tokens_returned"] == 2 * spent, "both answers are counted")
    counted = ('mayfly_mcp_tokens_total{kind="returned"}', 'mayfly_mcp_calls_total{outcome="ok",tool="execute_code"}')
    eventually(
        lambda: all(name in stack.client.get("/metrics").text for name in counted),
        "the tokens and the call are counted",
    )


def test_json_of_ten_megabytes_is_summarised_as_a_whole(stack: Stack) -> None:
    rows = "[{'id': n, 'name': f'user {n}', 'note': 'x' * 100} for n in range(75_000)]"
    found = Agent(stack).call(
        "execute_code",
        code=f"import json\nprint(json.dumps({rows}))",
        mode="script",
        limits={"output_bytes": 16 * 2**20, "wall_seconds": 60},
        max_output_tokens=1000,
    )
    text = found["content"][0]["text"]
    assert "[75,000 of {id: int, name: str, note: str}]" in text
    assert '[74999] {"id":74999,' in text
    assert count(text) <= 1000
