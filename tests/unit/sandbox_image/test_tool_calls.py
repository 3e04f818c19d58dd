"""Programs that call tools, in Python: the library, the agent's pipes, and the worker's end of the line."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.models.tools import ToolCall
from tests.builders.agent import Agent, Result
from tests.builders.tools.tool_line import BOUNDS, Counting, Host, Refused, Tools, install_library
from tests.harness import eventually
from worker.agent.frames import FromAgent

NAMES = {"git_hub.list_issues": ["git-hub", "list.issues"]}
RAW = """
import json, os, struct
def call(seq, server="s", tool="t", body=b"{}", size=None):
    header = json.dumps({"seq": seq, "server": server, "tool": tool}).encode()
    return struct.pack(">II", len(header), len(body) if size is None else size) + header + body
def write(data):
    while data:
        data = data[os.write(14, data):]
buffer = b""
def answer():
    global buffer
    while True:
        if len(buffer) >= 8:
            head, body = struct.unpack_from(">II", buffer)
            if len(buffer) >= 8 + head + body:
                found = json.loads(buffer[8:8 + head]), json.loads(buffer[8 + head:8 + head + body])
                buffer = buffer[8 + head + body:]
                return found
        buffer += os.read(15, 65536)
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    started = Agent(tmp_path / "sandbox", PYTHONPATH=str(install_library(tmp_path / "library", NAMES)))
    assert next(started.frames).kind is FromAgent.READY
    yield started
    started.close()


def printed(result: Result) -> list[str]:
    assert result.exit["exit_code"] == 0, result.stderr.decode()
    assert result.stderr == b""
    return result.stdout.decode().splitlines()


FORK, AHEAD, EXECUTED = "fork", "ahead", "executed"


@pytest.fixture(params=[FORK, AHEAD, EXECUTED])
def start(request: pytest.FixtureRequest, agent: Agent) -> dict[str, Any]:
    """The ways in which a program's process is made."""
    if request.param == AHEAD:
        agent.prepare()
    return {"env": {**agent.env, "PYTHONHASHSEED": "1"}} if request.param == EXECUTED else {}


def test_a_program_gets_results_as_plain_data(agent: Agent, start: dict[str, Any]) -> None:
    tools = Tools(lambda call: {"server": call.server, "tool": call.tool, "got": json.loads(call.arguments)})
    host = Host(agent, tools)
    lines = printed(
        host.run(
            "from mayfly import tools\n"
            "print(tools.git_hub.list_issues(repo='x', page=2))\n"
            "print(tools['other']['a/b']({'x': 'é'}, y=None)['got'])\n",
            **start,
        )
    )
    assert lines == [
        "{'server': 'git-hub', 'tool': 'list.issues', 'got': {'repo': 'x', 'page': 2}}",
        "{'x': 'é', 'y': None}",
    ]
    assert [(record.tool, record.outcome, record.request_bytes) for record in host.records] == [
        ("git-hub.list.issues", "ok", len(b'{"repo": "x", "page": 2}')),
        ("other.a/b", "ok", len('{"x": "é", "y": null}'.encode())),
    ]
    assert {call.tenant for call in tools.calls} == {"tenant"}
    assert len({call.id for call in tools.calls}) == 2
    eventually(lambda: tools.cancelled == 1, "the line has ended")


def test_only_a_program_with_tools_has_their_descriptors(agent: Agent, start: dict[str, Any]) -> None:
    shown = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
    agent.input("main.py", shown)
    agent.start(**start)
    assert printed(agent.end()) == ["[0, 1, 2]"]


def test_a_program_with_tools_passes_none_on(agent: Agent, start: dict[str, Any]) -> None:
    shown = "import os, sys\nprint([end for end in (14, 15) if os.path.exists(f'/proc/self/fd/{end}')], flush=True)\n"
    program = f"{shown}import subprocess\nsubprocess.run([sys.executable, '-c', {shown!r}], close_fds=False)\n"
    lines = printed(Host(agent, Tools()).run(program, **start))
    assert lines == ["[14, 15]", "[]"]


def test_a_failed_call_can_be_caught_and_earlier_results_stay(agent: Agent) -> None:
    def answer(call: ToolCall) -> Any:
        if call.tool == "lst":
            raise Refused("tool_unknown", "There is no tool s.lst.", did_you_mean=("s.list",), valid_parameters=("a",))
        return [1]

    host = Host(agent, Tools(answer))
    lines = printed(
        host.run(
            "import mayfly, pickle\nfrom mayfly import tools\n"
            "kept = tools.s.list()\n"
            "try:\n    tools.s.lst()\n"
            "except mayfly.ToolError as error:\n"
            "    print(error.code, error.message, error.did_you_mean, error.valid_parameters)\n"
            "    print(error)\n"
            "    print(str(pickle.loads(pickle.dumps(error))) == str(error), type(error))\n"
            "print(kept)\n"
        )
    )
    assert lines == [
        "tool_unknown There is no tool s.lst. ('s.list',) ('a',)",
        "tool_unknown: There is no tool s.lst. Did you mean: s.list. Valid parameters: a.",
        "True <class 'mayfly.ToolError'>",
        "[1]",
    ]
    assert [record.outcome for record in host.records] == ["ok", "tool_unknown"]
    [event] = host.incidents.take()
    assert (event.kind, event.attribution) == ("tool_denied", "host")


def test_an_uncaught_failure_is_printed_by_its_name(agent: Agent) -> None:
    def answer(call: ToolCall) -> Any:
        raise Refused("tool_failed", "It broke.")

    result = Host(agent, Tools(answer)).run("from mayfly import tools\ntools.s.t()\n")
    assert result.exit["exit_code"] == 1
    assert result.stderr.decode().splitlines()[-1] == "mayfly.ToolError: tool_failed: It broke."


GATHER = """
import asyncio
from mayfly import tools
async def main():
    print(await asyncio.gather(*(tools.aio.s.t(n=n) for n in range(40))))
asyncio.run(main())
"""
THREADS = """
from concurrent.futures import ThreadPoolExecutor
from mayfly import tools
with ThreadPoolExecutor(20) as executor:
    print(list(executor.map(lambda n: tools.s.t(n=n), range(40))))
"""
BOTH = """
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
from mayfly import tools
found = {}
async def main():
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(5) as executor:
        half = [loop.run_in_executor(executor, lambda n=n: tools.s.t(n=n)) for n in range(20)]
        print(await asyncio.gather(*half, *(tools.aio.s.t(n=n) for n in range(20, 40))))
asyncio.run(main())
"""


@pytest.mark.parametrize("code", [GATHER, THREADS, BOTH])
def test_calls_overlap_up_to_their_bound(agent: Agent, code: str) -> None:
    tools = Counting(least=3)
    assert printed(Host(agent, tools).run(code)) == [str(list(range(40)))]
    assert 2 < tools.most <= BOUNDS.at_once


def test_a_cancelled_call_leaves_the_line_usable(agent: Agent) -> None:
    lines = printed(
        Host(agent, Counting()).run(
            "import asyncio\nfrom mayfly import tools\n"
            "async def main():\n"
            "    try:\n        await asyncio.wait_for(tools.aio.s.t(n=1), 0.001)\n"
            "    except TimeoutError:\n        print('late')\n"
            "    print(await tools.aio.s.t(n=2))\n"
            "asyncio.run(main())\n"
            "print(tools.s.t(n=3))\n"
        )
    )
    assert lines == ["late", "2", "3"]


def test_an_answer_for_a_closed_loop_leaves_the_line_usable(agent: Agent) -> None:
    def slowly(call: ToolCall) -> Any:
        time.sleep(0.3)  # longer than the program's loop lives
        return json.loads(call.arguments)["n"]

    lines = printed(
        Host(agent, Tools(slowly)).run(
            "import asyncio\nfrom mayfly import tools\n"
            "async def main():\n    await asyncio.wait_for(tools.aio.s.t(n=1), 0.05)\n"
            "try:\n    asyncio.run(main())\nexcept TimeoutError:\n    print('late')\n"
            "print(tools.s.t(n=2), tools.s.t(n=3))\n"
        )
    )
    assert lines == ["late", "2 3"]


def test_a_call_that_a_signal_interrupts_leaves_the_line_usable(agent: Agent) -> None:
    def late(call: ToolCall) -> str:
        time.sleep(0.3)  # longer than the program's own patience
        return call.tool

    lines = printed(
        Host(agent, Tools(late)).run(
            "import signal\nfrom mayfly import tools\n"
            "def late(*_): raise TimeoutError\n"
            "signal.signal(signal.SIGALRM, late)\n"
            "try:\n    signal.setitimer(signal.ITIMER_REAL, 0.1)\n    tools.s.first()\n"
            "except TimeoutError:\n    print('late')\n"
            "print(tools.s.second())\n"
        )
    )
    assert lines == ["late", "second"]


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("tools.s.t(x={1})", "tool_arguments_invalid"),
        ("tools.s.t(x=float('nan'))", "tool_arguments_invalid"),
        ("tools.s.t(x='\\ud800')", "tool_arguments_invalid"),
        ("tools.s.t(x='a' * 2**20)", "tool_bytes_exceeded"),
        ("tools.s.t(x='a' * 10**8)", "tool_bytes_exceeded"),
        ("tools['No such']['tool!']()", "tool_unknown"),
    ],
)
def test_a_call_that_no_tool_can_take_fails_alone(agent: Agent, call: str, code: str) -> None:
    tools = Tools()
    lines = printed(
        Host(agent, tools).run(
            "from mayfly import ToolError, tools\n"
            f"try:\n    {call}\nexcept ToolError as error:\n    print(error.code)\n"
            "print(tools.s.t(x=1))\n"
        )
    )
    assert lines == [code, "{'x': 1}"]
    assert len(tools.calls) == 1


CHILDREN = {
    "fork": "pid = os.fork()\nif not pid:\n    attempt()\n    os._exit(0)\nos.waitpid(pid, 0)\n",
    "multiprocessing": "import multiprocessing\np = multiprocessing.Process(target=attempt)\np.start()\np.join()\n",
    "executed": "subprocess.run([sys.executable, '-c', 'import mayfly\\ntry:\\n    mayfly.tools.s.t()\\n"
    "except mayfly.ToolError as error:\\n    print(error)'])\n",
}


@pytest.mark.parametrize("kind", CHILDREN)
@pytest.mark.parametrize("called_before", [True, False])
def test_a_child_process_has_no_tools_and_leaves_the_line_alone(agent: Agent, kind: str, called_before: bool) -> None:
    tools = Tools()
    before = "tools.s.t(n=0)\n" if called_before else ""
    lines = printed(
        Host(agent, tools).run(
            "import os, subprocess, sys\nfrom mayfly import ToolError, tools\n"
            "def attempt():\n"
            "    try:\n        tools.s.t(n=1)\n    except ToolError as error:\n        print(error, flush=True)\n"
            f"{before}{CHILDREN[kind]}print(tools.s.t(n=2))\n"
        )
    )
    assert lines[0].startswith("tool_unavailable: Only the program's first process can call tools.")
    assert lines[1:] == ["{'n': 2}"]
    assert [json.loads(call.arguments)["n"] for call in tools.calls] == ([0, 2] if called_before else [2])


def test_a_program_without_tools_gets_a_failure_that_names_the_remedy(tmp_path: Path) -> None:
    library = install_library(tmp_path / "library", bounds=None)
    agent = Agent(tmp_path / "sandbox", PYTHONPATH=str(library))
    assert next(agent.frames).kind is FromAgent.READY
    agent.input("main.py", "from mayfly import tools, ToolError\ntry: tools.s.t()\nexcept ToolError as e: print(e)")
    agent.start()
    [line] = printed(agent.end())
    assert line.startswith("tool_unavailable: This execution has no tools.")
    assert "`tools`" in line
    agent.close()


def test_large_results_arrive_whole(agent: Agent) -> None:
    lines = printed(
        Host(agent, Tools(lambda call: "é" * json.loads(call.arguments)["n"])).run(
            "from mayfly import tools\nfor n in (0, 1, 65536, 300_001): print(len(tools.s.t(n=n)))\n"
        )
    )
    assert lines == ["0", "1", "65536", "300001"]


def test_results_beyond_their_bounds_fail(agent: Agent) -> None:
    host = Host(agent, Tools(lambda call: "x" * json.loads(call.arguments)["n"]))
    lines = printed(
        host.run(
            "from mayfly import tools, ToolError\n"
            f"for n in ({BOUNDS.response_bytes - 1}, {BOUNDS.response_bytes - 10}, {BOUNDS.response_bytes - 10}, 5):\n"
            "    try:\n        print(len(tools.s.t(n=n)))\n"
            "    except ToolError as error:\n        print(error.code)\n"
        )
    )
    assert lines == ["tool_result_too_large", str(BOUNDS.response_bytes - 10), "tool_bytes_exceeded", "5"]
    assert [record.response_bytes for record in host.records] == [0, BOUNDS.response_bytes - 8, 0, 7]


def test_program_that_continues_to_call_is_answered_and_then_left_waiting(agent: Agent) -> None:
    tools, host = Tools(), None
    host = Host(agent, tools)
    lines = printed(
        host.run(
            "from mayfly import tools, ToolError\n"
            "codes = {}\n"
            "for n in range(70):\n"
            "    try:\n        tools.s.t()\n        code = 'ok'\n"
            "    except ToolError as error:\n        code = error.code\n"
            "    codes[code] = codes.get(code, 0) + 1\n"
            "print(codes)\n"
        )
    )
    assert lines == ["{'ok': 50, 'tool_calls_exceeded': 20}"]
    assert (len(tools.calls), len(host.records)) == (50, 50)


def test_search_is_answered_by_the_worker(agent: Agent) -> None:
    tools = Tools()
    lines = printed(Host(agent, tools).run("import mayfly\nprint(mayfly.search_tools('issues', limit=3))"))
    assert lines == ["{'built-in': 'search_tools', 'query': 'issues', 'limit': 3}"]
    assert tools.calls == []


def test_names_show_the_callable_tools(agent: Agent) -> None:
    lines = printed(
        Host(agent, Tools()).run(
            "from mayfly import tools\nimport mayfly.tools as same, copy\n"
            "print(tools, dir(tools), dir(tools.git_hub), tools.git_hub.list_issues, same is tools)\n"
            "print(hasattr(tools, '__wrapped__'), copy.copy(tools.git_hub.list_issues)())\n"
        )
    )
    assert lines == [
        "<tools of git_hub> ['git_hub'] ['list_issues'] <tool git_hub.list_issues> True",
        "False {}",
    ]


GARBAGE = {
    "bytes": "os.write(14, b'\\xff' * 100)",
    "an endless header": "write(struct.pack('>II', 2**31, 0))",
    "no object": "write(struct.pack('>II', 2, 0) + b'[]')",
    "an open number": "write(call(7, tool='slow') + call(7))",
    "deep": "write(struct.pack('>II', 1000, 0) + b'[' * 1000)",
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_bytes_that_are_no_calls_end_the_line_alone(agent: Agent, kind: str) -> None:
    tools = Tools(lambda call: time.sleep(0.2))
    host = Host(agent, tools)
    lines = printed(
        host.run(f"{RAW}{GARBAGE[kind]}\nwrite(call(8))\nprint('on', flush=True)\nimport time; time.sleep(1)\n")
    )
    assert lines == ["on"]
    assert [call.tool for call in tools.calls] == (["slow"] if "open number" in kind else [])


def test_a_program_that_never_reads_its_answers_costs_a_bounded_buffer(agent: Agent) -> None:
    host = Host(agent, Tools(lambda call: "x" * 400_000))
    code = (
        f"{RAW}for n in range(20): write(call(n))\nprint('wrote', flush=True)\nimport time; time.sleep(0.5)\nprint(1)\n"
    )
    assert printed(host.run(code)) == ["wrote", "1"]
    sent = host.calling._sent_bytes - host.calling._taken_bytes
    assert 0 <= sent <= 64 * 1024


def test_raw_arguments_beyond_their_bound_are_skipped(agent: Agent) -> None:
    host = Host(agent, Tools())
    code = (
        f"{RAW}write(call(1, body=b'', size=2 * 10**6) + b'x' * (2 * 10**6))\nprint(answer()[1]['code'])\n"
        "write(call(2))\nprint(answer())\n"
    )
    assert printed(host.run(code)) == ["tool_bytes_exceeded", "({'seq': 2, 'ok': True}, {})"]
    assert sum(record.request_bytes for record in host.records) == 2 * 10**6 + 2


def test_a_flood_waits_in_the_program_until_its_time_is_over(agent: Agent) -> None:
    host = Host(agent, Tools())
    result = host.run(f"{RAW}write(call(1, size=2**32 - 1))\nwhile True: write(b'x' * 65536)\n", wall_seconds=1.0)
    assert result.exit["stopped"] == "wall"
    assert host.calling._received_bytes <= 2 * BOUNDS.all_bytes + 2 * BOUNDS.request_bytes


def test_output_flows_while_a_call_waits(agent: Agent) -> None:
    released = threading.Event()
    host = Host(agent, Tools(lambda call: released.wait(20)))
    seen: list[str] = []
    following = threading.Thread(target=lambda: seen.extend(printed(host.follow())))
    host.start(
        "import sys, threading, time\nfrom mayfly import tools\n"
        "waiting = threading.Thread(target=tools.s.t)\nwaiting.start()\n"
        "print('meanwhile', flush=True)\nwaiting.join()\nprint('after')\n"
    )
    following.start()
    eventually(lambda: b"meanwhile" in host.result.stdout, "output arrives")
    eventually(lambda: host.calling.waited_seconds(time.monotonic())[1], "the call waits")
    released.set()
    following.join(20)
    assert seen == ["meanwhile", "after"]
    seconds, waits = host.calling.waited_seconds(time.monotonic())
    assert seconds > 0
    assert not waits


def test_calls_that_are_open_at_the_end_are_cancelled(agent: Agent) -> None:
    released = threading.Event()

    def answer(call: ToolCall) -> bool:
        """``u`` is answered when ``t`` was called, which is answered too late."""
        if call.tool == "t":
            return released.wait(60)
        return eventually(lambda: any(one.tool == "t" for one in tools.calls), "the other call is open")

    tools = Tools(answer)
    host = Host(agent, tools)
    host.run("from mayfly import tools\nimport os, threading\n"
             "threading.Thread(target=tools.s.t, daemon=True).start()\ntools.s.u()\nos._exit(0)\n")  # fmt: skip
    eventually(lambda: tools.cancelled, "the calls are cancelled")
    assert tools.forgotten == [call.id for call in tools.calls if call.tool == "t"]
    assert sorted(record.outcome for record in host.records) == ["ok", "tool_cancelled"]
    released.set()


def test_a_call_without_an_outcome_fails_at_its_deadline(agent: Agent) -> None:
    released = threading.Event()
    tools = Tools(lambda call: released.wait(20))
    host = Host(agent, tools, BOUNDS._replace(seconds=0.2))
    lines = printed(
        host.run("from mayfly import tools, ToolError\ntry: tools.s.t()\nexcept ToolError as e: print(e.code)\n")
    )
    assert lines == ["tool_timed_out"]
    assert tools.forgotten == [tools.calls[0].id]
    released.set()


@pytest.mark.parametrize("ends", [(14,), (15,), (14, 15)])
def test_a_program_that_closes_its_pipes_has_no_tools(agent: Agent, ends: tuple[int, ...]) -> None:
    closes: Callable[[int], str] = "os.close({})".format
    lines = printed(
        Host(agent, Tools()).run(
            f"import os\n{'; '.join(map(closes, ends))}\nfrom mayfly import tools, ToolError\n"
            "for n in range(2):\n    try: tools.s.t()\n    except ToolError as e: print(e.code)\n"
        )
    )
    assert lines == ["tool_unavailable"] * 2
