"""Programs in real sandboxes call tools that their client fulfils."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from mayfly import Client, tool
from tests.harness import Stack, Way

SECONDS = 200.0  # of one call
WAY = Way("oci-crun")


@pytest.fixture(scope="module")
def stack(need_runtime: Callable[..., None], images: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An installation with crun."""
    need_runtime(WAY.runtime, WAY.driver)
    made = Stack(tmp_path_factory.mktemp("caller"), **WAY.settings, tool_seconds=SECONDS)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.env["MAYFLY_URL"], stack.key) as client:
        yield client


def events(stack: Stack, id: str, types: set[str]) -> list[dict[str, Any]]:
    """The events of a stream up to the first of these types."""
    found, event = [], {}
    with stack.client.stream("GET", f"/api/v1/executions/{id}/stream") as stream:
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                event[name] = value
                continue
            found.append({"event": event.get("event"), **json.loads(event.get("data", "{}"))})
            if event.get("event") in types | {"done"}:
                return found
            event = {}
    return found


PROGRAM = """
from mayfly import ToolError, tools
print(tools.caller.lookup(key="a"))
try:
    tools.caller.lookup(key="b")
except ToolError as error:
    print(error)
"""


def test_program_calls_functions_of_its_client(client: Client) -> None:
    asked = []

    def lookup(key: str) -> dict[str, int]:
        asked.append(key)
        if key == "b":
            raise ValueError("no such key")
        return {"count": 3}

    ended = client.run(PROGRAM, tools=[lookup]).check()
    assert ended.stdout == "{'count': 3}\ntool_failed: no such key\n"
    assert asked == ["a", "b"]
    assert [(call["tool"], call["outcome"]) for call in ended.document["tool_calls"]] == [
        ("caller.lookup", "ok"), ("caller.lookup", "tool_failed"),
    ]  # fmt: skip


def test_thousand_records_with_20_calls_give_ten_lines(client: Client) -> None:
    @tool
    def page(number: int) -> list[dict[str, int]]:
        return [{"id": n, "size": n % 7 * n} for n in range(50 * number, 50 * number + 50)]

    code = """
from mayfly import tools
records = [record for n in range(20) for record in tools.caller.page(number=n)]
for record in sorted(records, key=lambda record: -record["size"])[:10]:
    print(record["id"], record["size"])
"""
    ended = client.run(code, tools=[page]).check()
    expected = sorted(({"id": n, "size": n % 7 * n} for n in range(1000)), key=lambda record: -record["size"])[:10]
    assert ended.stdout == "".join(f"{record['id']} {record['size']}\n" for record in expected)


def test_calls_of_tools_overlap(client: Client) -> None:
    together = threading.Barrier(4, timeout=60)
    code = """
import asyncio
from mayfly import tools
async def main():
    return await asyncio.gather(*(tools.aio.caller.meet(n=n) for n in range(4)))
print(sorted(asyncio.run(main())))
"""

    def meet(n: int) -> int:
        together.wait()
        return n

    assert client.run(code, tools=[meet]).check().stdout == "[0, 1, 2, 3]\n"


def test_node_calls_functions_of_its_client(client: Client) -> None:
    code = "const { tools } = require('mayfly');\ntools.caller.add({ a: 1, b: 2 }).then((sum) => console.log(sum));\n"
    assert client.run(code, environment="node", tools={"add": lambda a, b: a + b}).check().stdout == "3\n"


HOSTILE = """
from mayfly import ToolError, tools
for name, arguments in [("lookups", {"key": "a"}), ("lookup", {"key": 1}), ("lookup", {"kye": "a"})]:
    try:
        tools.caller[name](**arguments)
    except ToolError as error:
        print(error.code, error.did_you_mean, error.valid_parameters)
"""


def test_call_that_does_not_fit_never_reaches_the_client(client: Client, stack: Stack) -> None:
    asked = []

    def lookup(key: str) -> None:
        asked.append(key)

    ended = client.run(HOSTILE, tools=[lookup]).check()
    assert ended.stdout is not None
    assert [line.split()[0] for line in ended.stdout.splitlines()] == [
        "tool_unknown", "tool_arguments_invalid", "tool_arguments_invalid",
    ]  # fmt: skip
    assert "caller.lookup" in ended.stdout
    assert asked == []
    assert [event["kind"] for event in stack.security(ended.id)] == ["tool_denied"]


CATCHING = """
from mayfly import ToolError, tools
try:
    print(tools.caller.lookup())
except ToolError as error:
    print(error.code)
"""


def submitted(stack: Stack, code: str, **body: Any) -> str:
    definition = {"name": "lookup", "inputSchema": {"type": "object"}}
    answer = stack.submit(environment="python", code=code, tools=[definition], **body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def call_of(stack: Stack, id: str) -> str:
    return str(events(stack, id, {"tool_call"})[-1]["call_id"])


def answer(stack: Stack, id: str, call_id: str, **body: Any) -> httpx2.Response:
    return stack.client.post(f"/api/v1/executions/{id}/tool-results/{call_id}", json=body)


def test_client_that_never_answers_is_timed_out(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(**WAY.settings, tool_seconds=1.5).start()
    id = submitted(stack, CATCHING)
    call_id = call_of(stack, id)
    ended = stack.ended(id)
    assert (ended["state"], ended["stdout"]) == ("succeeded", "tool_timed_out\n")
    late = answer(stack, id, call_id, result=1)
    assert (late.status_code, late.json()["code"]) == (409, "tool_call_expired")
    assert ended["usage"]["tool_seconds"] >= 1.5


def test_second_answer_is_refused_and_the_program_has_the_first(stack: Stack) -> None:
    id = submitted(stack, CATCHING)
    call_id = call_of(stack, id)
    assert answer(stack, id, call_id, result="first").status_code == 204
    assert answer(stack, id, call_id, result="second").json()["code"] == "tool_call_answered"
    assert stack.ended(id)["stdout"] == "first\n"
    assert answer(stack, id, call_id, result="first").status_code == 204
    assert answer(stack, id, call_id, result="third").json()["code"] == "tool_call_answered"


def test_answer_goes_to_no_other_execution(stack: Stack) -> None:
    first, second = submitted(stack, CATCHING), submitted(stack, CATCHING)
    calls = {id: call_of(stack, id) for id in (first, second)}
    assert answer(stack, first, calls[second], result=0).status_code == 404
    for id, call_id in calls.items():
        assert answer(stack, id, call_id, result=id).status_code == 204
    assert [stack.ended(id)["stdout"] for id in (first, second)] == [f"{first}\n", f"{second}\n"]


def test_answer_after_a_cancellation_is_refused(stack: Stack) -> None:
    id = submitted(stack, CATCHING)
    call_id = call_of(stack, id)
    assert stack.client.post(f"/api/v1/executions/{id}/cancel").status_code == 202
    assert stack.ended(id)["state"] == "cancelled"
    late = answer(stack, id, call_id, result=1)
    assert (late.status_code, late.json()["code"]) == (409, "tool_call_ended")


def test_result_of_10_mebibytes_arrives(stack: Stack) -> None:
    id = submitted(stack, "from mayfly import tools\nprint(len(tools.caller.lookup()))")
    call_id = call_of(stack, id)
    text = "x" * (10 * 2**20 - 2)
    assert answer(stack, id, call_id, result=text + "x").json()["code"] == "tool_result_too_large"
    assert answer(stack, id, call_id, result=text).status_code == 204
    assert stack.ended(id)["stdout"] == f"{len(text)}\n"


def test_waiting_for_a_client_is_not_charged_as_run_time(client: Client) -> None:
    def slow() -> None:
        time.sleep(5)

    code = "from mayfly import tools\ntools.caller.slow()\nprint('there')"
    ended = client.run(code, tools=[slow], limits={"wall_seconds": 4.0})
    assert (ended.state, ended.stdout) == ("succeeded", "there\n")
