"""Stops and deadlines of a conversation: each is set once, is kept by later events, and has its own time."""

from __future__ import annotations

import json

import pytest

from orchestrator.environments import DEFAULT_LIMITS
from orchestrator.errors import FrameError
from worker.agent.conversation import MAX_SOCKETS, Conversation
from worker.agent.deadlines import COLLECT_CPU_SECONDS, COLLECT_SECONDS, CPU_GRACE_SECONDS, GRACE_SECONDS
from worker.agent.frame_budget import FRAME_CPU_SECONDS, FREE_FRAMES
from worker.agent.frames import Frame, FromAgent
from worker.attempt.session import STOP_SECONDS, TICK_SECONDS
from worker.counters import Counters

START, WALL, CPU = 100.0, 10.0, 5.0
LIMITS = DEFAULT_LIMITS.model_copy(update={"wall_seconds": WALL, "cpu_seconds": CPU})
PRINTED = Frame(FromAgent.STDOUT, b"x")
FILE = Frame(FromAgent.FILE, json.dumps({"path": "/output/x", "size": 1}).encode())


def running(*, waits: float | None = None, host_counts_cpu: bool = True) -> Conversation:
    """A conversation whose program runs since ``START``; ``waits``: the longest wait for its tools."""
    made = Conversation(LIMITS, "standard", host_counts_cpu=host_counts_cpu, tool_wait_seconds=waits)
    made.ask(START)
    made.begin(START, Counters(cpu_seconds=1.0))
    made.receive(Frame(FromAgent.RUNNING, b"{}"), START)
    return made


def used(seconds: float) -> Counters:
    return Counters(cpu_seconds=1.0 + seconds)


def test_program_that_never_starts_takes_no_time() -> None:
    made = Conversation(LIMITS, "standard", host_counts_cpu=True, now=START)
    assert (made.began, made.ended, made.run_seconds) == (START, START, 0.0)


def test_stopped_program_is_killed_after_its_grace() -> None:
    made = running()
    assert made.stop_for("cancel", START + 1)
    assert made.wake_at() == START + 1 + GRACE_SECONDS
    assert not made.is_due(START + 1 + GRACE_SECONDS - 0.01)
    assert made.is_due(START + 1 + GRACE_SECONDS)


def test_cancelled_container_is_killed_within_the_promised_two_seconds() -> None:
    """Of which the rest is for the message to the worker: a program's own end is collected within the grace."""
    made = running()
    made.stop_for("cancel", START)
    assert made.wake_at() - START + STOP_SECONDS + TICK_SECONDS <= 1.5


def test_second_stop_extends_no_deadline() -> None:
    made = running()
    made.stop_for("output", START + 1)
    assert not made.stop_for("wall", START + 1.5)
    assert (made.stop, made.wake_at()) == ("output", START + 1 + GRACE_SECONDS)


@pytest.mark.parametrize("waits", [None, 20.0])
def test_earliest_kill_deadline_counts(waits: float | None) -> None:
    made = running(waits=waits)
    for when in (START + 3, START + 7, START + 5):
        made.kill_at(when)
    assert made.wake_at() == START + 3
    assert not made.is_due(START + 2.99)
    assert made.is_due(START + 3)


def test_wall_time_ends_with_its_grace() -> None:
    made = running()
    assert made.wake_at() == START + WALL + GRACE_SECONDS
    assert not made.is_due(START + WALL + GRACE_SECONDS - 0.01)
    assert made.is_due(START + WALL + GRACE_SECONDS)


def test_program_with_tools_is_stopped_at_its_wall_time_and_killed_after_the_grace() -> None:
    made = running(waits=20.0)
    assert made.wake_at() == START + WALL
    assert not made.wait_for_tools(0.0, False, START + WALL - 0.01)
    assert made.wait_for_tools(0.0, False, START + WALL)
    assert made.wake_at() == START + WALL + GRACE_SECONDS


def test_waiting_for_tools_moves_the_stop_up_to_its_bound() -> None:
    made = running(waits=20.0)
    made.wait_for_tools(3.0, True, START + 3)
    assert made.wake_at() == START + 20.0 + WALL  # the program may wait for all that time
    made.wait_for_tools(25.0, False, START + 25)
    assert made.wake_at() == START + 20.0 + WALL
    assert made.tool_seconds == 20.0


def test_waiting_after_the_wall_time_moves_no_stop() -> None:
    made = running(waits=20.0)
    assert not made.wait_for_tools(0.0, True, START + WALL - 0.01)
    assert made.wait_for_tools(0.0, True, START + WALL)


def test_waiting_for_tools_moves_no_deadline_of_collecting() -> None:
    made = running(waits=20.0)
    made.receive(FILE, START + 2)
    made.wait_for_tools(15.0, True, START + 2)
    assert made.wake_at() == START + 2 + COLLECT_SECONDS
    assert made.tool_seconds == 0.0


def test_time_waited_for_tools_does_not_extend_collecting() -> None:
    made = running(waits=20.0)
    made.wait_for_tools(1.5, False, START + 2)
    made.receive(FILE, START + 2)
    assert (made.wake_at(), made.tool_seconds) == (START + 2 + COLLECT_SECONDS, 1.5)
    assert made.is_due(START + 2 + COLLECT_SECONDS)


def test_collecting_has_one_deadline_for_all_files() -> None:
    made = running()
    for second in range(2, 9):
        made.receive(FILE, START + second)
        made.received(START + second, 0.0)
    assert made.wake_at() == START + 2 + COLLECT_SECONDS
    assert not made.is_due(START + 2 + COLLECT_SECONDS - 0.01)
    assert made.is_due(START + 2 + COLLECT_SECONDS)


def test_cpu_time_beyond_the_limit_stops_the_program() -> None:
    made = running()
    assert not made.observe(START + 1, used(CPU))
    assert made.observe(START + 2, used(CPU + 0.01))
    assert (made.stop, made.wake_at()) == ("cpu", START + 2 + GRACE_SECONDS)


def test_agent_that_counts_cpu_time_has_a_grace() -> None:
    made = running(host_counts_cpu=False)
    assert not made.observe(START + 1, used(CPU + CPU_GRACE_SECONDS))
    assert made.observe(START + 2, used(CPU + CPU_GRACE_SECONDS + 0.01))


def test_cpu_time_beyond_the_bound_of_collecting_kills_at_once() -> None:
    made = running()
    made.receive(FILE, START + 1)
    assert not made.observe(START + 2, used(CPU + COLLECT_CPU_SECONDS))
    assert made.observe(START + 3, used(CPU + COLLECT_CPU_SECONDS + 0.01))
    assert made.stop == "collect"
    assert made.is_due(START + 3)


def test_sockets_beyond_the_bound_kill_at_once() -> None:
    made = running()
    assert not made.observe(START + 1, Counters(cpu_seconds=1.0, sockets=MAX_SOCKETS))
    assert made.observe(START + 2, Counters(cpu_seconds=1.0, sockets=MAX_SOCKETS + 1))
    assert made.stop == "sockets"
    assert made.is_due(START + 2)


def test_more_small_frames_than_the_cpu_time_allows_break_the_rules() -> None:
    made = running()
    for _ in range(FREE_FRAMES + 10):
        made.receive(PRINTED, START + 1)
    made.observe(START + 1, used(10 * FRAME_CPU_SECONDS))
    made.receive(PRINTED, START + 1)
    with pytest.raises(FrameError, match="small frames"):
        made.observe(START + 1, used(10 * FRAME_CPU_SECONDS))


def test_wall_time_without_the_programs_start_is_an_engine_fault() -> None:
    made = Conversation(LIMITS, "standard", host_counts_cpu=True)
    made.ask(START)
    made.begin(START, Counters())
    assert made.expire(START + WALL + GRACE_SECONDS, Counters())
    made.receive(Frame(FromAgent.RUNNING, b"{}"), START + WALL + 2)  # late, and so no proof
    made.end(START + WALL + 3)
    assert made.run_seconds == WALL + 3


def test_late_end_of_the_program_counts_as_run_time() -> None:
    made = running()
    assert made.expire(START + WALL + GRACE_SECONDS, Counters())
    made.receive(FILE, START + WALL + 2)
    made.end(START + WALL + 3)
    assert made.run_seconds == WALL + 3
