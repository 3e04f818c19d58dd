"""``make readiness``: each line of the checklists has a proof or a reason, and a failing proof is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.readiness.checklist import Checklist, Line, Section, faults, load
from tests.readiness.page import page
from tests.readiness.proving import Outcome, State, judge, judge_node, read_report, run, run_tests

LINES = {"code-executor": 179, "code-search-server": 235, "mcp-ecosystem": 153, "operators": 15}
OPTIONS = ("-c", "/dev/null", "-p", "no:cacheprovider", "-p", "no:schemathesis")
PROOFS = {
    "good": ("tests/test_x.py::test_that_passes", "mayfly --help"),
    "parameters": ("tests/test_x.py::test_of_parameters[1]",),
    "one of two": ("tests/test_x.py::test_of_parameters",),
    "bad": ("tests/test_x.py::test_that_fails",),
    "module": ("tests/test_x.py",),
    "skipped": ("tests/test_x.py::test_that_is_skipped",),
    "absent": ("tests/test_x.py::test_that_is_not_there",),
    "refused": ("mayfly no-such-command",),
}
TESTS = """
import pytest

def test_that_passes():
    pass

def test_that_fails():
    assert 1 == 2

def test_that_is_skipped():
    pytest.skip("no engine")

@pytest.mark.parametrize("number", [1, 2])
def test_of_parameters(number):
    assert number == 1
"""


def checklist(*lines: Line) -> Checklist:
    return Checklist(PROOFS, {"people": "People decide."}, (Section("x", "y", lines),))


def test_each_line_has_a_proof_that_exists_or_a_reason() -> None:
    assert list(faults(load())) == []


def test_every_line_of_the_checklists_is_there() -> None:
    found: dict[str, list[str]] = {}
    for section in load().sections:
        found.setdefault(section.source, []).extend(line.id for line in section.lines)
    assert {source: len(ids) for source, ids in found.items()} == LINES
    for source, ids in found.items():
        assert ids == [f"{source}/{number}" for number in range(1, len(ids) + 1)]


def test_page_is_current() -> None:
    assert (ROOT / "docs" / "production-readiness.md").read_text() == page(load())


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (Line("x/1", "t"), "neither a proof nor a reason"),
        (Line("x/1", "t", ("none",)), "there is no proof none"),
        (Line("x/1", "t", ("good",), ("none",)), "there is no reason none"),
        (Line("x/1", "t", ("absent",)), "absent: there is no tests/test_x.py::test_that_is_not_there"),
        (Line("x/2", "t", ("good",)), "x/2: comes twice"),
    ],
)
def test_fault_of_a_line_is_found(line: Line, fault: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(TESTS)
    others = [Line("x/2", "t", (name,)) for name in PROOFS] + [Line("x/3", "t", (), ("people",))]
    assert any(fault in one for one in faults(checklist(line, *others), tmp_path))


def test_line_holds_only_if_its_commands_succeed(tmp_path: Path) -> None:
    """By a real run of pytest and of mayfly; every other line is a control."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(TESTS)
    lines = {name: Line(f"x/{name}", "t", (name,)) for name in PROOFS}
    lines["people"] = Line("x/people", "t", (), ("people",))
    lines["in part"] = Line("x/in part", "t", ("good",), ("people",))
    lines["bad in part"] = Line("x/bad in part", "t", ("good", "bad"), ("people",))
    made = checklist(*lines.values())
    outcomes = run(made, (*OPTIONS, "--rootdir", str(tmp_path)), tmp_path)
    found = {name: judge(line, made, outcomes) for name, line in lines.items()}
    states = {name: outcome.state for name, outcome in found.items()}
    assert states == {
        "good": State.HOLDS,
        "parameters": State.HOLDS,
        "one of two": State.FAILS,
        "bad": State.FAILS,
        "module": State.FAILS,
        "skipped": State.UNPROVEN,
        "absent": State.FAILS,
        "refused": State.FAILS,
        "people": State.UNPROVEN,
        "in part": State.UNPROVEN,
        "bad in part": State.FAILS,
    }
    assert "no engine" in found["skipped"].detail
    assert found["in part"].detail == "People decide."
    assert "1 == 2" in found["bad"].detail


def test_nothing_holds_if_pytest_breaks_off(tmp_path: Path) -> None:
    """At an error in a hook, after one of two tests of a module; without the error the module holds."""
    node = "tests/test_x.py"
    (tmp_path / "tests").mkdir()
    (tmp_path / node).write_text("def test_first():\n    pass\n\ndef test_second():\n    pass\n")
    options = (*OPTIONS, "--rootdir", str(tmp_path))
    assert run_tests([node], options, tmp_path) == {node: Outcome(State.HOLDS)}
    hook = "def pytest_runtest_logreport(report):\n    assert 'second' not in report.nodeid\n"
    (tmp_path / "tests" / "conftest.py").write_text(hook)
    assert run_tests([node], options, tmp_path) == {node: Outcome(State.FAILS, "pytest broke off with exit code 3")}


def test_error_of_a_fixture_is_a_failure() -> None:
    report = (
        '<testsuites><testsuite><testcase classname="tests.a.test_x" name="test_y[1]"><skipped message="s"/></testcase>'
        '<testcase classname="tests.a.test_x" name="test_y[2]"><error message="no redis"/></testcase>'
        "</testsuite></testsuites>"
    )
    cases = read_report(report)
    assert judge_node("tests/a/test_x.py::test_y", cases).state is State.FAILS
    assert judge_node("tests/a/test_x.py::test_y[1]", cases) == Outcome(State.UNPROVEN, "s")
    assert judge_node("tests/a/test_x.py::test", cases) == Outcome(State.FAILS, "tests/a/test_x.py::test: did not run")
