"""Streamed standard input of a running program: forwarding, acknowledgement and bounds in the agent."""

from __future__ import annotations

import sys

import psutil
import pytest

from tests.builders.agent import Agent, Result
from worker.agent.frames import FromAgent, ToAgent

PIPE_BYTES = 65_536
ECHO = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)\nprint('end')"


def start(agent: Agent, program: str, **changed: object) -> None:
    """START with ``stream_stdin``, and no STDIN behind it."""
    agent.input("main.py", program)
    write = agent.write
    agent.write = lambda kind, payload=b"": None if kind is ToAgent.STDIN else write(kind, payload)  # type: ignore[method-assign]
    agent.start(stream_stdin=True, **changed)  # type: ignore[arg-type]
    agent.write = write  # type: ignore[method-assign]


def until(agent: Agent, result: Result, wanted: bytes) -> None:
    """Read frames until the program has printed so much."""
    while result.out.get(FromAgent.STDOUT, b"") != wanted:
        frame = next(agent.frames)
        assert frame.kind is not FromAgent.EXIT, (result.out, frame)
        result.add(frame)


def acknowledged(agent: Agent, wanted: int) -> None:
    """Read frames until the agent acknowledges so many bytes in the program's pipe."""
    taken = 0
    while taken < wanted:
        frame = next(agent.frames)
        if frame.kind is FromAgent.STDIN_TAKEN:
            assert taken < frame.json()["bytes"] <= wanted
            taken = frame.json()["bytes"]
    assert taken == wanted


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "executed"])
def test_each_line_reaches_a_running_program_separately(agent: Agent, fork: bool) -> None:
    start(agent, ECHO, fork=fork)
    seen = Result()
    agent.write(ToAgent.STDIN, b"one\n")
    until(agent, seen, b"ONE\n")  # an agent that reads to the end first never gets here
    agent.write(ToAgent.STDIN, b"two\n")
    until(agent, seen, b"ONE\nTWO\n")
    agent.write(ToAgent.STDIN)
    result = agent.end()
    assert (result.out[FromAgent.STDOUT], result.code) == (b"end\n", 0)


def test_program_that_does_not_read_ends_while_its_input_is_open(agent: Agent) -> None:
    start(agent, "print('done')")
    assert agent.end().out[FromAgent.STDOUT] == b"done\n"


def test_unread_input_is_acknowledged_up_to_the_pipes_capacity(agent: Agent) -> None:
    start(agent, "import os, time\nprint('up', flush=True)\ntime.sleep(60)")
    until(agent, Result(), b"up\n")
    agent.write(ToAgent.STDIN, b"x" * 40_000)
    acknowledged(agent, 40_000)
    agent.write(ToAgent.STDIN, b"x" * 40_000)
    agent.write(ToAgent.STOP)
    taken = []
    for frame in agent.frames:
        if frame.kind is FromAgent.STDIN_TAKEN:
            taken.append(frame.json()["bytes"])
        if frame.kind is FromAgent.EXIT:
            assert frame.json()["stopped"] == "cancel"
            break
    assert all(40_000 < some <= PIPE_BYTES for some in taken)


def test_a_closed_input_is_dropped_and_costs_no_time(agent: Agent) -> None:
    program = "import os, time\nos.close(0)\nprint('closed', flush=True)\ntime.sleep(1)"
    start(agent, program)
    until(agent, Result(), b"closed\n")
    agent.write(ToAgent.STDIN, b"x" * 1000)
    agent.write(ToAgent.STDIN)
    result = agent.end()
    assert result.code == 0
    assert FromAgent.STDIN_TAKEN not in result.kinds


def test_an_input_without_a_reader_does_not_keep_the_agent_busy(agent: Agent) -> None:
    start(agent, "import os, time\nos.close(0)\nprint('closed', flush=True)\ntime.sleep(2)")
    until(agent, Result(), b"closed\n")
    used = psutil.Process(agent.process.pid).cpu_times()
    for frame in agent.frames:
        if frame.kind is FromAgent.EXIT:
            break
    now = psutil.Process(agent.process.pid).cpu_times()
    assert now.user + now.system - used.user - used.system < 1.0  # of two seconds; a loop would take them all


def test_input_received_during_compilation_goes_to_the_program(agent: Agent) -> None:
    compile_step = [sys.executable, "-c", "import sys, time; time.sleep(0.5); print(repr(sys.stdin.read()))"]
    start(agent, "import sys; print(sys.stdin.read())", compile=compile_step)
    agent.write(ToAgent.STDIN, b"early ")
    agent.write(ToAgent.STDIN, b"bird")
    agent.write(ToAgent.STDIN)
    result = agent.end()
    assert result.out[FromAgent.COMPILE_STDOUT] == b"''\n"
    assert result.out[FromAgent.STDOUT] == b"early bird\n"


def test_an_input_that_ends_at_once_is_empty(agent: Agent) -> None:
    start(agent, "import sys; print(repr(sys.stdin.read()))")
    agent.write(ToAgent.STDIN)
    assert agent.end().out[FromAgent.STDOUT] == b"''\n"


def test_input_is_not_acknowledged_without_a_stream(agent: Agent) -> None:
    agent.input("main.py", "import sys; print(len(sys.stdin.read()))")
    agent.start(b"x" * 300_000)
    result = agent.end()
    assert result.out[FromAgent.STDOUT] == b"300000\n"
    assert FromAgent.STDIN_TAKEN not in result.kinds
