"""Waiting for tools is not run time up to its bound, and no call is made twice when its worker dies."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.builders.sandboxes.pauses import Pause
from tests.builders.tools.stack_tools import StackTools
from tests.harness import Stack, eventually

SPIN = "import time\nfrom mayfly import tools\n"


@pytest.fixture(scope="module")
def tools_of(tmp_path_factory: pytest.TempPathFactory, images: None) -> Iterator[Callable[[], StackTools]]:
    """A stack without an engine whose programs may wait six seconds for their tools; started for the first test."""
    made: list[StackTools] = []

    def make() -> StackTools:
        if not made:
            stack = Stack(tmp_path_factory.mktemp("stack"), driver="oci", tool_wait_seconds=6.0).start()
            made.append(StackTools(stack))
        return made[0]

    yield make
    for one in made:
        one.close()
        one.stack.stop()


@pytest.fixture
def tools(tools_of: Callable[[], StackTools]) -> StackTools:
    return tools_of()


LIMITS = {"wall_seconds": 3.0}


def test_waiting_for_tools_may_exceed_the_wall_time(tools: StackTools) -> None:
    found = tools.run(f"{SPIN}print(tools.test.wait(seconds=4))", limits=LIMITS)
    assert (found["state"], found["stdout"]) == ("succeeded", "done\n")
    usage = found["usage"]
    assert usage["wall_seconds"] > 4
    assert 4 <= usage["tool_seconds"] <= usage["wall_seconds"]


@pytest.mark.parametrize(
    ("code", "least"),
    [
        ("tools.test.wait(seconds=200)", 6.0),
        ("tools.test.wait(seconds=1)\nwhile True: pass", 1.0),
        ("tools.test.wait(seconds=1)\ntime.sleep(200)", 1.0),
    ],
)
def test_a_program_with_tools_is_stopped_at_its_wall_time(tools: StackTools, code: str, least: float) -> None:
    begin = "open('/output/kept.txt', 'w').write('kept')\nprint('kept', flush=True)\n"
    found = tools.run(f"{SPIN}{begin}{code}", limits=LIMITS)
    assert (found["state"], found["reason"], found["fault"]) == ("failed", "timed_out", "user")
    assert found["stdout"] == "kept\n"
    assert [artifact["path"] for artifact in found["artifacts"]] == ["kept.txt"]
    usage = found["usage"]
    assert usage["tool_seconds"] >= least
    assert usage["wall_seconds"] - usage["tool_seconds"] >= 0.95 * LIMITS["wall_seconds"]
    assert {event["kind"] for event in tools.security(found["id"])} == {"timeout"}


def test_cpu_time_counts_while_a_program_waits(tools: StackTools) -> None:
    code = (
        "import threading\nthreading.Thread(target=tools.test.wait, args=[{'seconds': 200}]).start()\nwhile True: pass"
    )
    found = tools.run(f"{SPIN}{code}", limits={"wall_seconds": 60, "cpu_seconds": 0.5})
    assert found["reason"] == "cpu_exceeded"


def test_calls_that_are_open_at_the_end_of_a_program_are_cancelled(tools: StackTools) -> None:
    pause = Pause()
    code = (
        "import os, threading\n"
        "threading.Thread(target=tools.test.wait, args=[{'seconds': 200, 'mark': 'open'}], daemon=True).start()\n"
        f"while not tools.test.add(a=1, b=1): pass\n{pause.code}\nos._exit(0)\n"
    )
    begun = tools.submit(f"{SPIN}{code}", limits={"wall_seconds": 200})
    tools.waits("wait", "open")
    pause.end()
    found = tools.ended(begun["id"])
    assert sorted(call["outcome"] for call in found["tool_calls"]) == ["ok", "tool_cancelled"]
    assert tools.brokers.called("wait", "open") == 1
    assert tools.brokers.called("waited", "open") == 0


@pytest.mark.parametrize(("tool", "state", "calls"), [("wait", "errored", 1), ("wait_again", "succeeded", 2)])
def test_execution_of_a_killed_worker_repeats_only_idempotent_calls(
    tools: StackTools, tool: str, state: str, calls: int
) -> None:
    mark = f"killed-{tool}"
    begun = tools.submit(f"{SPIN}print(tools.test.{tool}(seconds=5, mark='{mark}'))", limits={"wall_seconds": 60})
    tools.waits(tool, mark)
    worker = tools.stack.workers[-1]
    worker.stop(signal.SIGKILL)
    tools.stack.start_worker()
    found = eventually(
        lambda: (shown := tools.show(begun["id"], wait=5))["state"] in ("errored", "succeeded", "failed") and shown,
        "the execution has ended",
        60,
    )
    assert found["state"] == state
    assert tools.brokers.called(tool, mark) == calls
    if state == "errored":
        assert "must not be called twice" in found["message"]


FRAIL = """
from mayfly import ToolError, tools
def outcome(call):
    try:
        return type(call()).__name__
    except ToolError as error:
        return error.code
records = [row for _ in range(10) for row in tools.test.rows(count=50)]
print(outcome(lambda: tools.frail.wait(seconds=200)))
print(outcome(lambda: tools.frail.garbage()))
print(outcome(lambda: tools.frail.huge(bytes=20 * 2**20)))
print(outcome(lambda: tools.frail.change()))
print(outcome(lambda: tools.frail.inject()))
print(outcome(lambda: tools.frail.die()))
records += [row for _ in range(10) for row in tools.test.rows(count=50)]
print(len(records), sum(row["id"] for row in records))
"""


def test_a_program_keeps_its_results_beside_a_server_that_fails_in_every_way(tools: StackTools) -> None:
    tools.brokers.over_pipe("frail", call_seconds=10.0)
    tools.brokers.ready("frail")
    begun = tools.submit(FRAIL, tools=["test.*", "frail.*"], limits={"wall_seconds": 60.0})
    neighbour = tools.run(f"{SPIN}print(sum(tools.test.add(a=n, b=1) for n in range(20)))")
    assert (neighbour["state"], neighbour["stdout"]) == ("succeeded", "210\n")
    found = tools.ended(begun["id"])
    assert (found["state"], found["stderr"]) == ("succeeded", "")
    assert found["stdout"].splitlines() == [
        "tool_timed_out", "NoneType", "tool_result_too_large", "str", "str", "tool_outcome_unknown", "1000 24500",
    ]  # fmt: skip
    assert len([call for call in found["tool_calls"] if call["outcome"] == "ok"]) == 23
    assert tools.brokers.brokers[0].popen.poll() is None
    history = tools.brokers.store.tools.catalogues.history
    eventually(lambda: [one.added for one in history("t")][:1] == [("added",)], "the broker has noticed the change")


def test_a_running_program_makes_its_calls_whenever_the_api_dies(tools: StackTools) -> None:
    begun = tools.submit(GATED, limits={"wall_seconds": 250}, stdin={"stream": True})
    for gate in GATES:
        tools.waits("wait", f"api-{gate - 5}")
        api = tools.stack.api
        assert api is not None
        api.stop(signal.SIGKILL)
        tools.stack.start_api()
        path = f"/api/v1/executions/{begun['id']}/stdin"
        assert tools.stack.client.post(path, content=b"\n", headers=tools.headers).status_code == 202
    found = tools.ended(begun["id"])
    assert (found["state"], found["stderr"]) == ("succeeded", "")
    assert [tools.brokers.called("wait", f"api-{n}") for n in range(40)] == [1] * 40
    assert [call["outcome"] for call in found["tool_calls"]] == ["ok"] * 40


GATES = (10, 20, 30)  # calls behind which the program waits until the API is there again
GATED = f"""
import sys
from mayfly import tools
for n in range(40):
    tools.test.wait(seconds=0.02, mark=f"api-{{n}}")
    if n in {GATES}:
        sys.stdin.readline()
"""
SEQUENCE = """
import sys
from mayfly import tools
for n in range(40):
    tools.test.{tool}(seconds=0.02, mark=f"{mark}-{{n}}")
"""


@pytest.mark.parametrize(
    "kill", [pytest.param(kill, marks=() if kill < 4 else pytest.mark.complete) for kill in range(20)]
)
def test_no_call_is_made_twice_whenever_the_worker_dies(tools: StackTools, kill: int) -> None:
    mark = f"sequence-{kill}"
    begun = tools.submit(SEQUENCE.format(tool="wait", mark=mark))
    tools.waits("wait", f"{mark}-0")
    time.sleep(random.Random(kill).uniform(0.0, 0.5))  # any step of any call
    tools.stack.workers[-1].stop(signal.SIGKILL)
    tools.stack.start_worker()
    found = eventually(
        lambda: (shown := tools.show(begun["id"], wait=5))["state"] in ("errored", "succeeded", "failed") and shown,
        "the execution has ended",
        60,
    )
    assert found["state"] in ("errored", "succeeded")
    called = [tools.brokers.called("wait", f"{mark}-{n}") for n in range(40)]
    assert max(called) == 1, called
    assert called == sorted(called, reverse=True), "calls are made in their order, without a gap"
    assert (found["state"] == "succeeded") == (sum(called) == 40)
