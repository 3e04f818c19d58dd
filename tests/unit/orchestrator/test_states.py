"""The state machine and the verdict, exhaustively."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from orchestrator.environments import DEFAULT_LIMITS
from orchestrator.models import Facts
from orchestrator.states import TERMINAL, TRANSITIONS, Fault, Reason, State, Verdict, cancelled, classify

CASES: list[tuple[dict[str, Any], State, Reason | None, Fault | None]] = [
    ({"exit_code": 0}, State.SUCCEEDED, None, None),
    # A program that coped with a limit has succeeded.
    ({"exit_code": 0, "oom_events": 2, "pids_events": 1, "disk_full": ("/work",)}, State.SUCCEEDED, None, None),
    ({"exit_code": 1}, State.FAILED, Reason.NONZERO_EXIT, Fault.USER),
    ({"exit_code": 137}, State.FAILED, Reason.NONZERO_EXIT, Fault.USER),
    ({"exit_code": 139, "signal": 11}, State.FAILED, Reason.SIGNALLED, Fault.USER),
    ({"exit_code": 159, "signal": 31}, State.FAILED, Reason.SECURITY_VIOLATION, Fault.POLICY),
    ({"exit_code": 137, "signal": 9, "oom_events": 1}, State.FAILED, Reason.OOM_KILLED, Fault.USER),
    ({"exit_code": 137, "oom_killed": True}, State.FAILED, Reason.OOM_KILLED, Fault.USER),
    ({"exit_code": 1, "pids_events": 3}, State.FAILED, Reason.PIDS_EXCEEDED, Fault.USER),
    ({"exit_code": 1, "disk_full": ("/tmp",)}, State.FAILED, Reason.DISK_EXCEEDED, Fault.USER),
    ({"exit_code": 159, "signal": 31, "seccomp_kills": 1}, State.FAILED, Reason.SECURITY_VIOLATION, Fault.POLICY),
    ({"exit_code": 159, "signal": 31, "seccomp_kills": 0}, State.FAILED, Reason.SIGNALLED, Fault.USER),
    ({"exit_code": 1, "compile_exit_code": 1}, State.FAILED, Reason.COMPILE_FAILED, Fault.USER),
    ({"exit_code": 1, "compile_exit_code": 0}, State.FAILED, Reason.NONZERO_EXIT, Fault.USER),
    ({"exit_code": 124, "stopped": "wall"}, State.FAILED, Reason.TIMED_OUT, Fault.USER),
    ({"exit_code": 124, "stopped": "cpu"}, State.FAILED, Reason.CPU_EXCEEDED, Fault.USER),
    ({"exit_code": 0, "killed": "wall"}, State.FAILED, Reason.TIMED_OUT, Fault.USER),
    ({"exit_code": 137, "killed": "output"}, State.FAILED, Reason.OUTPUT_EXCEEDED, Fault.USER),
    ({"exit_code": 137, "killed": "frames"}, State.FAILED, Reason.SECURITY_VIOLATION, Fault.POLICY),
    ({"exit_code": 124, "killed": "denials"}, State.FAILED, Reason.SECURITY_VIOLATION, Fault.POLICY),
    ({"exit_code": 137, "killed": "sockets"}, State.FAILED, Reason.OOM_KILLED, Fault.USER),
    ({"killed": "collect"}, State.FAILED, Reason.TIMED_OUT, Fault.USER),
    ({"killed": "platform"}, State.ERRORED, Reason.INTERNAL, Fault.PLATFORM),
    ({}, State.ERRORED, Reason.INTERNAL, Fault.PLATFORM),
    ({"exit_code": 0, "killed": "cancel"}, State.CANCELLED, Reason.CANCELLED_BY_USER, None),
]


@pytest.mark.parametrize(("facts", "state", "reason", "fault"), CASES, ids=lambda value: str(value)[:60])
def test_facts_have_their_verdict(
    facts: dict[str, Any], state: State, reason: Reason | None, fault: Fault | None
) -> None:
    assert Verdict(state, reason, fault) == classify(Facts(**facts), DEFAULT_LIMITS)


def test_every_combination_has_a_terminal_verdict_and_a_failure_has_an_owner() -> None:
    stopped = (None, "wall", "cpu")
    killed = (None, "wall", "cpu", "output", "denials", "sockets", "cancel", "frames", "collect", "platform")
    codes = (None, 0, 1, 124, 137, 159, 255)
    for stop, kill, code, oom, pids, disk in itertools.product(stopped, killed, codes, (0, 1), (0, 1), ((), ("/tmp",))):
        facts = Facts(stopped=stop, killed=kill, exit_code=code, oom_events=oom, pids_events=pids, disk_full=disk)
        verdict = classify(facts, DEFAULT_LIMITS)
        assert verdict.state in TERMINAL
        assert (verdict.reason is None) == (verdict.state is State.SUCCEEDED)
        assert (verdict.fault is None) == (verdict.state in (State.SUCCEEDED, State.CANCELLED))


def test_the_state_machine() -> None:
    assert set(TRANSITIONS) == set(State)
    for state in TERMINAL:
        assert TRANSITIONS[state] == frozenset()
    reachable = {State.QUEUED}
    while more := {to for state in reachable for to in TRANSITIONS[state]} - reachable:
        reachable |= more
    assert reachable == set(State)
    assert State.RUNNING not in TRANSITIONS[State.QUEUED]
    assert cancelled().reason is Reason.CANCELLED_BY_USER
