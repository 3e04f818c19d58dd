"""The conclusion of an attempt, for every phase, stop, exit and tier."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from itertools import product
from typing import Any

import pytest

from orchestrator.environments import DEFAULT_LIMITS
from orchestrator.models import Facts, Isolation
from worker.agent.conversation import AGENT_FAILED, AGENT_UNFILTERED, PHASES, Conversation, Spoilt, Stop
from worker.agent.frames import Frame, FromAgent
from worker.counters import KILLED, Counters, Ended

LIMITS = DEFAULT_LIMITS.model_copy(update={"wall_seconds": 10.0})
STOPS: tuple[Stop | None, ...] = (
    None, "wall", "cpu", "output", "denials", "sockets", "cancel", "frames", "collect", "platform",
)  # fmt: skip
ISOLATIONS: tuple[Isolation, ...] = ("standard", "hardened")
TO_PHASE = {"compiling": "", "compiled": "C", "waiting": "", "running": "G", "collecting": "GF", "over": "GX"}
NAMED = 7  # the code that the last frame names
CODES = (None, 0, NAMED, KILLED, AGENT_FAILED, AGENT_UNFILTERED, 139)


def reached(phase: str, isolation: Isolation, last: dict[str, Any] | None = None) -> Conversation:
    """A conversation in that phase; ``last`` is the content of the last frame."""
    compiles = phase in ("compiling", "compiled")
    made = Conversation(LIMITS, isolation, host_counts_cpu=False, compiles=compiles, feeds=False)
    made.ask(100.0)
    made.begin(100.0, Counters(cpu_seconds=3.0))
    payloads = {FromAgent.EXIT: last or {"exit_code": NAMED}, FromAgent.COMPILED: {"exit_code": 0, "wall_seconds": 1}}
    for letter in TO_PHASE[phase]:
        kind = FromAgent(letter.encode())
        made.receive(Frame(kind, json.dumps(payloads.get(kind, {})).encode()), 110.0)
    assert made.phase == phase
    return made


def concluded(
    made: Conversation, code: int | None, *, oom_events: int = 0, oom_killed: bool = False, diagnostics: bytes = b""
) -> Facts | Spoilt:
    made.end(112.0)
    ended = None if code is None else Ended(code, oom_killed)
    return made.conclude(ended, Counters(cpu_seconds=5.0, oom_events=oom_events), diagnostics)


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("phase", sorted(PHASES))
def test_stop_reason_is_the_cause_of_the_kill(phase: str, isolation: Isolation) -> None:
    for stop, code in product(STOPS[1:], CODES):
        made = reached(phase, isolation)
        assert stop is not None
        made.stop_for(stop, 111.0)
        facts = concluded(made, code)
        assert isinstance(facts, Facts)
        assert (facts.killed, facts.stopped, facts.exit_code, facts.cpu_seconds) == (stop, None, code, 2.0)


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("phase", sorted(set(PHASES) - {"over"}))
def test_early_death_of_agent_spoils_unless_the_program_can_cause_such_an_end(phase: str, isolation: Isolation) -> None:
    # Exit codes of an agent that wrote nothing, or something, to its diagnostics; whether the attempt was spoilt.
    table = [
        (None, b"", True), (0, b"", True), (None, b"why", True), (0, b"why", True),
        (KILLED, b"", isolation == "standard"), (KILLED, b"why", isolation == "standard"),
        (AGENT_FAILED, b"", True), (AGENT_FAILED, b"No space left on device", False),
        (AGENT_UNFILTERED, b"", isolation == "standard"), (AGENT_UNFILTERED, b"why", isolation == "standard"),
        (139, b"", isolation == "standard"), (139, b"why", False),
    ]  # fmt: skip
    for code, diagnostics, spoilt in table:
        found = concluded(reached(phase, isolation), code, diagnostics=diagnostics)
        assert isinstance(found, Spoilt) is spoilt, (code, diagnostics)
    for memory in ({"oom_events": 1}, {"oom_killed": True}):
        found = concluded(reached(phase, isolation), KILLED, **memory)
        assert isinstance(found, Facts)
        assert found.killed is None


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_last_frame_is_compared_with_the_exit_code(isolation: Isolation) -> None:
    killed = {None: None, 0: "frames", NAMED: None, AGENT_FAILED: "frames", AGENT_UNFILTERED: "frames", 139: "frames"}
    for code, wanted in killed.items():
        facts = concluded(reached("over", isolation), code, diagnostics=b"why")
        assert isinstance(facts, Facts)
        assert (facts.killed, facts.exit_code) == (wanted, code)
        assert facts.run_seconds == 10.0


def test_report_of_the_end_never_changes() -> None:
    made = reached("over", "standard")
    assert made.exit is not None
    with pytest.raises(FrozenInstanceError):
        made.exit.exit_code = 0  # type: ignore[misc]
    assert made.exit.exit_code == NAMED


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_agent_killed_after_its_last_frame_is_spoilt_in_standard(isolation: Isolation) -> None:
    found = concluded(reached("over", isolation), KILLED)
    assert isinstance(found, Spoilt) is (isolation == "standard")
    named = concluded(reached("over", isolation, {"exit_code": KILLED}), KILLED)
    assert isinstance(named, Facts)
    assert named.killed is None, "the program was killed, and the agent exited with its code"


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_sandbox_that_outstays_its_last_frame_is_a_violation(isolation: Isolation) -> None:
    made = reached("over", isolation)
    made.overstay()
    facts = concluded(made, KILLED)
    assert isinstance(facts, Facts)
    assert facts.killed == "frames"


@pytest.mark.parametrize(
    ("last", "code", "signal", "stopped"),
    [
        ({"exit_code": 139, "signal": 11}, 139, 11, None),
        ({"exit_code": 139, "signal": 9}, 139, None, None),
        ({"exit_code": 124, "stopped": "wall"}, 124, None, "wall"),
        ({"exit_code": 124, "stopped": "cpu"}, 124, None, "cpu"),
        ({"exit_code": 124, "stopped": "boredom"}, 124, None, None),
        ({"exit_code": 0, "signal": "11", "stopped": 7, "disk_full": "x", "unrouted": -1}, 0, None, None),
    ],
)
def test_agents_report_is_kept_where_host_facts_agree(
    last: dict[str, Any], code: int, signal: int | None, stopped: str | None
) -> None:
    facts = concluded(reached("over", "standard", last), code)
    assert isinstance(facts, Facts)
    assert (facts.signal, facts.stopped, facts.killed) == (signal, stopped, None)


def test_wall_limit_reported_before_the_hosts_deadline_is_rejected() -> None:
    made = Conversation(LIMITS, "standard", host_counts_cpu=True, compiles=False, feeds=False)
    made.ask(100.0)
    made.begin(100.0, Counters())
    made.receive(Frame(FromAgent.RUNNING, b"{}"), 100.0)
    made.receive(Frame(FromAgent.EXIT, b'{"exit_code": 124, "stopped": "wall"}'), 105.0)
    facts = concluded(made, 124)
    assert isinstance(facts, Facts)
    assert facts.stopped is None
    counted = reached("over", "standard", {"exit_code": 124, "stopped": "cpu"})
    counted._host_counts_cpu = True  # then the host stops the program, not the agent
    facts = concluded(counted, 124)
    assert isinstance(facts, Facts)
    assert facts.stopped is None
