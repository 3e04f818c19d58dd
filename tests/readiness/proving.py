"""Runs the commands of a checklist, and judges its lines by their outcomes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from tests.harness import ROOT
from tests.readiness.checklist import COMMAND, Checklist, Line
from tests.readiness.named_tests import is_test

# In the lanes of a whole run, with the tests that the default selection leaves out.
LANES = ("--numprocesses", "3", "--dist", "loadfile", "--no-loadscope-reorder")
COMPLETE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


class State(StrEnum):
    """The judgement of a line."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNPROVEN = "cannot be proven here"


class Outcome(NamedTuple):
    """The end of one command; ``detail`` for all but a success."""

    state: State
    detail: str = ""


class Case(NamedTuple):
    """One test in pytest's report."""

    node: str
    outcome: Outcome


def run_tests(nodes: Sequence[str], options: Sequence[str] = LANES, root: Path = ROOT) -> dict[str, Outcome]:
    """The outcome of each node id, from one run of pytest. A node of which no test ran does not hold.

    If pytest broke off, no node holds: the report lacks the tests that did not run.
    """
    there = [node for node in nodes if is_test(node, root)]  # one absent name would keep pytest from running any
    with tempfile.TemporaryDirectory(prefix="mayfly-readiness-") as directory:
        report = Path(directory, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", *options, f"--junitxml={report}", *there]
        if there:
            ended = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, check=False).returncode
            if ended not in COMPLETE:
                return dict.fromkeys(nodes, Outcome(State.FAILS, f"pytest broke off with exit code {ended}"))
        cases = read_report(report.read_text(encoding="utf-8")) if report.exists() else []
    return {node: judge_node(node, cases) for node in nodes}


def read_report(text: str) -> list[Case]:
    """The tests of a report in JUnit's form."""
    found = []
    for case in ElementTree.fromstring(text).iter("testcase"):
        node = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '')}"
        outcome = Outcome(State.HOLDS)
        for child in case:
            if child.tag in ("failure", "error"):
                outcome = Outcome(State.FAILS, first_line(child.get("message", "")) or child.tag)
                break
            if child.tag == "skipped":
                outcome = Outcome(State.UNPROVEN, first_line(child.get("message", "")))
        found.append(Case(node, outcome))
    return found


def judge_node(node: str, cases: Iterable[Case]) -> Outcome:
    """The outcome of a module, a test, or a test with parameters: none of its tests may fail, and one must pass."""
    own = [one for one in cases if one.node == node or one.node.startswith((f"{node}::", f"{node}["))]
    failed = [one for one in own if one.outcome.state is State.FAILS]
    if failed:
        return Outcome(State.FAILS, f"{failed[0].node}: {failed[0].outcome.detail}")
    if any(one.outcome.state is State.HOLDS for one in own):
        return Outcome(State.HOLDS)
    return own[0].outcome if own else Outcome(State.FAILS, f"{node}: did not run")


def run_command(command: str, root: Path = ROOT) -> Outcome:
    """The outcome of a command of mayfly, as installed beside this interpreter."""
    program, *words = command.split()
    installed = Path(sys.executable).parent / program
    done = subprocess.run([installed, *words], cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        return Outcome(State.HOLDS)
    return Outcome(State.FAILS, f"{command}: exit code {done.returncode}: {first_line(done.stderr or done.stdout)}")


def run(checklist: Checklist, options: Sequence[str] = LANES, root: Path = ROOT) -> dict[str, Outcome]:
    """The outcome of each command of a checklist."""
    commands = checklist.commands()
    found = {command: run_command(command, root) for command in commands if command.startswith(COMMAND)}
    return found | run_tests([one for one in commands if one not in found], options, root)


def judge(line: Line, checklist: Checklist, outcomes: Mapping[str, Outcome]) -> Outcome:
    """A line holds if all of its commands succeed, and nothing of it is beyond proof."""
    ends = [outcomes[command] for name in line.proof for command in checklist.proofs[name]]
    for state in (State.FAILS, State.UNPROVEN):
        if details := [one.detail for one in ends if one.state is state]:
            return Outcome(state, details[0])
    if line.reason:
        return Outcome(State.UNPROVEN, " ".join(checklist.reasons[name] for name in line.reason))
    return Outcome(State.HOLDS)


def first_line(text: str) -> str:
    """The start of a message."""
    return (text.strip().splitlines() or [""])[0][:200]
