"""The conversation with an agent, moved by frames, stops and times in any order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.environments import DEFAULT_LIMITS
from orchestrator.errors import FrameError
from orchestrator.models import Facts
from worker.agent.conversation import ENDED, OF_TOOLS, PHASES, Conversation, Spoilt, Stop
from worker.agent.deadlines import COLLECT_SECONDS, GRACE_SECONDS
from worker.agent.frames import Frame, FromAgent
from worker.counters import KILLED, Counters, Ended

LIMITS = DEFAULT_LIMITS.model_copy(update={"wall_seconds": 10.0, "cpu_seconds": 5.0})
STOPS: tuple[Stop, ...] = ("wall", "cpu", "output", "denials", "sockets", "cancel", "frames", "collect", "platform")
PAYLOADS: dict[FromAgent, dict[str, Any]] = {
    FromAgent.COMPILED: {"exit_code": 0, "wall_seconds": 0.1},
    FromAgent.EXIT: {"exit_code": 0},
}


def frame(kind: FromAgent) -> Frame:
    """A frame of that kind as an agent may send it."""
    data = kind in (FromAgent.STDOUT, FromAgent.STDERR, FromAgent.FILE_DATA)
    data = data or kind in (FromAgent.COMPILE_STDOUT, FromAgent.COMPILE_STDERR, FromAgent.CALL_DATA)
    return Frame(kind, b"x" if data else json.dumps(PAYLOADS.get(kind, {})).encode())


def conversation(
    isolation: Any = "standard", *, compiles: bool = False, feeds: bool = False, waits: float | None = None
) -> Conversation:
    """``waits``: the seconds for which a program with tools may wait for them."""
    made = Conversation(
        LIMITS, isolation, host_counts_cpu=False, compiles=compiles, feeds=feeds, tool_wait_seconds=waits
    )
    made.ask(100.0)
    made.begin(100.0, Counters(cpu_seconds=1.0))
    return made


# By their letters: c d compiling, C compiled, G running, O E output, W a full disk, F D J files, X the end, R ready.
HONEST = {False: ["GX", "GOEWOFDDFDJX", "GJX"], True: ["cdcWCX", "CGX", "cCGOEFDX", "CFDX"]}
FORGED = {
    False: ["X", "O", "R", "GR", "GG", "GC", "Gc", "GFO", "GJE", "GJW", "GXX", "GXO", "C", "F"],
    True: ["G", "X", "O", "cO", "CC", "CO", "Cc", "CGC", "CGc", "CFG", "CXG", "R"],
}


@pytest.mark.parametrize(("compiles", "letters"), [(which, one) for which in HONEST for one in HONEST[which]])
def test_frames_in_order_are_received(compiles: bool, letters: str) -> None:
    made = conversation(compiles=compiles)
    for letter in letters:
        made.receive(frame(FromAgent(letter.encode())), 101.0)
    assert (made.complete, made.phase) == (True, "over")


@pytest.mark.parametrize(("compiles", "letters"), [(which, one) for which in FORGED for one in FORGED[which]])
def test_frame_out_of_order_is_refused(compiles: bool, letters: str) -> None:
    made = conversation(compiles=compiles)
    for letter in letters[:-1]:
        made.receive(frame(FromAgent(letter.encode())), 101.0)
    with pytest.raises(FrameError, match="while"):
        made.receive(frame(FromAgent(letters[-1:].encode())), 101.0)


@pytest.mark.parametrize("kind", OF_TOOLS)
def test_only_a_program_with_tools_sends_frames_of_a_line(kind: FromAgent) -> None:
    made = conversation()
    made.receive(frame(FromAgent.RUNNING), 101.0)
    with pytest.raises(FrameError, match="without tools"):
        made.receive(frame(kind), 101.0)
    made = conversation(waits=20.0)
    with pytest.raises(FrameError, match="while waiting"):
        made.receive(frame(kind), 101.0)
    made.receive(frame(FromAgent.RUNNING), 101.0)
    made.receive(frame(kind), 101.0)
    made.receive(frame(FromAgent.EXIT), 102.0)
    with pytest.raises(FrameError, match="while over"):
        made.receive(frame(kind), 102.0)


def test_only_a_program_with_streamed_input_acknowledges_input() -> None:
    for feeds in (False, True):
        made = conversation(feeds=feeds)
        made.receive(frame(FromAgent.RUNNING), 101.0)
        if feeds:
            made.receive(frame(FromAgent.STDIN_TAKEN), 101.0)
        else:
            with pytest.raises(FrameError, match="without a stream"):
                made.receive(frame(FromAgent.STDIN_TAKEN), 101.0)


def running(waits: float = 20.0) -> Conversation:
    made = conversation(waits=waits)
    made.receive(frame(FromAgent.RUNNING), 100.1)
    return made


def test_waiting_for_tools_is_not_charged_up_to_its_bound() -> None:
    made = running()
    assert not made.wait_for_tools(0.0, False, 109.9)
    assert made.wake_at() == 110.0
    assert not made.wait_for_tools(8.0, True, 115.0)
    assert made.wake_at() == 130.0
    assert not made.is_due(115.0)
    assert not made.wait_for_tools(8.0, False, 117.9)
    assert made.wake_at() == 118.0
    assert made.wait_for_tools(8.0, False, 118.0)
    assert (made.stop, made.tool_seconds) == ("wall", 8.0)
    assert not made.is_due(118.0 + GRACE_SECONDS - 0.01)
    assert made.is_due(118.0 + GRACE_SECONDS)


def test_waiting_beyond_its_bound_is_charged() -> None:
    made = running()
    assert not made.wait_for_tools(19.9, True, 120.0)
    assert not made.wait_for_tools(25.0, True, 129.9)
    assert made.wait_for_tools(25.1, True, 130.0)
    assert (made.stop, made.tool_seconds) == ("wall", 20.0)


def test_a_program_that_the_host_stopped_in_time_has_timed_out() -> None:
    made = running()
    assert made.wait_for_tools(0.0, False, 110.0)
    made.receive(frame(FromAgent.REJECTED), 110.5)
    assert not made.is_due(110.5 + COLLECT_SECONDS - 0.1), "its files are collected like those of any other"
    made.receive(Frame(FromAgent.EXIT, b'{"exit_code": 124, "stopped": "cancel"}'), 110.6)
    made.end(110.6)
    concluded = made.conclude(Ended(124, False), Counters(), b"")
    assert isinstance(concluded, Facts)
    assert (concluded.killed, concluded.stopped) == ("wall", None)


def test_a_program_that_ignores_the_stop_is_killed_and_has_timed_out() -> None:
    made = running()
    assert made.wait_for_tools(0.0, False, 110.0)
    assert not made.expire(111.0, Counters()), "no delayed end is waited for"
    made.end(111.1)
    concluded = made.conclude(Ended(KILLED, False), Counters(), b"")
    assert isinstance(concluded, Facts)
    assert concluded.killed == "wall"


def test_an_engine_that_delays_the_start_of_a_program_with_tools_is_at_fault() -> None:
    made = conversation(waits=20.0)
    assert not made.wait_for_tools(0.0, False, 110.5)
    assert made.is_due(111.0)
    assert made.expire(111.0, Counters())
    made.end(111.1)
    assert isinstance(made.conclude(Ended(KILLED, False), Counters(), b""), Spoilt)


def test_first_stop_reason_wins() -> None:
    made = conversation()
    assert made.stop_for("cancel", 101.0)
    assert not made.stop_for("output", 102.0)
    made.break_rules("a frame that no agent sends", 103.0)
    assert made.stop == "cancel"
    assert made.wake_at() == 101.0 + GRACE_SECONDS
    assert made.violation, "it is reported nevertheless"


def test_silence_until_the_wall_limit_is_an_engine_fault_unless_agent_starved() -> None:
    for throttled, spoilt in ((0.0, True), (11.0, False)):
        made = conversation()
        made.begin(100.0, Counters(throttled_seconds=0.0))
        assert made.is_due(111.0)
        assert made.expire(111.0, Counters(throttled_seconds=throttled))
        made.end(111.0)
        assert isinstance(made.conclude(Ended(KILLED, False), Counters(), b""), Spoilt) is spoilt


def test_program_that_still_runs_past_the_wall_limit_has_timed_out() -> None:
    made = conversation()
    made.receive(frame(FromAgent.RUNNING), 101.0)
    assert made.expire(111.0, Counters())
    made.end(111.1)
    concluded = made.conclude(Ended(KILLED, False), Counters(), b"")
    assert isinstance(concluded, Facts)
    assert concluded.killed == "wall"


@pytest.mark.parametrize("isolation", ["standard", "hardened"])
def test_end_sent_in_time_and_received_late_is_an_engine_fault(isolation: str) -> None:
    made = conversation(isolation)
    made.receive(frame(FromAgent.RUNNING), 101.0)
    assert made.expire(111.0, Counters())
    made.receive(frame(FromAgent.EXIT), 111.1)
    made.end(111.2)
    concluded = made.conclude(Ended(KILLED, False), Counters(), b"")
    assert isinstance(concluded, Spoilt)


def test_broken_frames_behind_the_wall_limit_prove_no_fault_of_the_engine() -> None:
    made = conversation()
    assert made.expire(111.0, Counters())
    made.break_rules("noise", 111.1)
    made.end(111.2)
    concluded = made.conclude(Ended(KILLED, False), Counters(), b"")
    assert isinstance(concluded, Facts)
    assert concluded.killed == "wall"


class AnyOrder(RuleBasedStateMachine):
    """Any frames, stops and times: what never changes whatever comes."""

    @initialize(
        isolation=st.sampled_from(["standard", "hardened"]),
        compiles=st.booleans(),
        feeds=st.booleans(),
        waits=st.sampled_from([None, 0.0, 20.0]),
    )
    def start(self, isolation: Any, compiles: bool, feeds: bool, waits: float | None) -> None:
        self.made = conversation(isolation, compiles=compiles, feeds=feeds, waits=waits)
        self.waited, self.most = 0.0, waits or 0.0
        self.now, self.cpu = 100.0, 1.0
        self.first: Stop | None = None
        self.collecting_since: float | None = None
        self.over = False

    @precondition(lambda self: not self.over)
    @rule(seconds=st.floats(0.0, 12.0), cpu=st.floats(0.0, 3.0))
    def wait(self, seconds: float, cpu: float) -> None:
        self.now, self.cpu = self.now + seconds, self.cpu + cpu
        if self.made.observe(self.now, Counters(cpu_seconds=self.cpu)):
            self.first = self.first or self.made.stop
        if self.made.is_due(self.now):
            self.made.expire(self.now, Counters(cpu_seconds=self.cpu))
            self.first = self.first or self.made.stop
            self.over = True

    @precondition(lambda self: not self.over)
    @rule(seconds=st.floats(0.0, 30.0), waits=st.booleans())
    def wait_for_tools(self, seconds: float, waits: bool) -> None:
        self.waited += seconds
        if self.made.wait_for_tools(self.waited, waits, self.now):
            assert self.first is None
            assert self.now >= 100.0 + LIMITS.wall_seconds + min(self.waited, self.most) * (not waits)
        self.first = self.first or self.made.stop

    @precondition(lambda self: not self.over)
    @rule(data=st.data())
    def receive_expected(self, data: st.DataObject) -> None:
        self.receive(data.draw(st.sampled_from(list(PHASES[self.made.phase]))))

    @precondition(lambda self: not self.over)
    @rule(kind=st.sampled_from(list(FromAgent)))
    def receive_any(self, kind: FromAgent) -> None:
        self.receive(kind)

    def receive(self, kind: FromAgent) -> None:
        before = self.made.phase
        try:
            self.made.receive(frame(kind), self.now)
        except FrameError as error:
            self.made.break_rules(error.message, self.now)
            self.first = self.first or "frames"
            self.over = True
            assert self.made.phase == before
            return
        assert self.made.phase == PHASES[before][kind]
        if self.made.phase in ENDED and before not in ENDED:
            self.collecting_since = self.now
        self.over = self.made.complete

    @rule(why=st.sampled_from(STOPS))
    def stop(self, why: Stop) -> None:
        assert self.made.stop_for(why, self.now) is (self.first is None)
        self.first = self.first or why

    @invariant()
    def the_first_stop_stays(self) -> None:
        assert self.made.stop == self.first

    @invariant()
    def no_frame_lifts_the_bound_on_time(self) -> None:
        bound = 100.0 + LIMITS.wall_seconds + self.most + GRACE_SECONDS + COLLECT_SECONDS
        assert self.over or self.made.wake_at() <= bound
        if self.collecting_since is not None:
            assert self.over or self.made.wake_at() <= self.collecting_since + COLLECT_SECONDS

    @invariant()
    def concludes_at_any_time(self) -> None:
        facts = self.made.conclude(Ended(0, False), Counters(cpu_seconds=self.cpu), b"")
        if isinstance(facts, Facts):
            assert self.first is None or facts.killed == self.first
            assert facts.run_seconds >= 0.0

    def teardown(self) -> None:
        self.made.end(self.now)
        assert self.made.ended <= self.now


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
