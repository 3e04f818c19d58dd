"""The table of docker-bench-security's findings answers each of them, with tests that exist."""

from __future__ import annotations

import csv
import re

import pytest

from tests.harness import ROOT

RESULTS = {"pass", "info", "note", "warn", "not run"}
ANSWERS = {"holds", "fixed", "explained", "operator"}


# The script's checks, by section, without section 3 (files of an engine that systemd starts), which is one row.
CHECKS = {"1.1": 18, "1.2": 2, "2": 18, "4": 12, "5": 32, "6": 2, "7": 9}


def numbers(check: str) -> list[str]:
    """The checks that a row answers: ``2.3-2.6 2.10`` are five."""
    found: list[str] = []
    for part in check.split():
        first, _, last = part.partition("-")
        section, _, begin = first.rpartition(".")
        end = last.rpartition(".")[2] or begin
        found += [f"{section}.{number}" for number in range(int(begin), int(end) + 1)] if section else [first]
    return found


def faults(row: dict[str, str]) -> list[str]:
    """The missing parts of a row."""
    found = [] if row["result"] in RESULTS else [f"the result {row['result']!r}"]
    found += [] if row["answer"] in ANSWERS else [f"the answer {row['answer']!r}"]
    found += [] if len(row["reason"]) > 15 else ["a reason"]
    if row["answer"] == "holds" and row["result"] == "warn":
        found.append("a finding does not hold")
    for path, _, name in re.findall(r"(tests/[\w/]+\.py)(::(\w+))?", row["reason"]):
        text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
        found += [] if f"def {name or 'test_'}" in text else [f"{path} {name}"]
    return found


def test_each_finding_is_answered() -> None:
    with (ROOT / "docs" / "docker-bench.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["check"]: found for row in rows if (found := faults(row))} == {}
    assert {row["scope"] for row in rows} == {
        "host",
        "daemon",
        "daemon files",
        "images",
        "services",
        "operations",
        "swarm",
    }
    assert len({row["check"] + row["scope"] for row in rows}) == len(rows)


def test_every_check_of_the_script_is_answered_once() -> None:
    with (ROOT / "docs" / "docker-bench.csv").open(newline="") as file:
        answered = [number for row in csv.DictReader(file) for number in numbers(row["check"])]
    expected = [f"{section}.{number}" for section, most in CHECKS.items() for number in range(1, most + 1)]
    assert sorted(answered) == sorted([*expected, "3"])


def test_range_of_checks_is_counted() -> None:
    """The control: a row that is missing, or comes twice, changes the list."""
    assert numbers("2.3-2.6 2.10") == ["2.3", "2.4", "2.5", "2.6", "2.10"]
    assert numbers("1.1.3-1.1.4") == ["1.1.3", "1.1.4"]
    assert numbers("3") == ["3"]


@pytest.mark.parametrize(
    "changed", [{"result": "WARN"}, {"answer": "ticked"}, {"reason": ""}, {"reason": "tests/unit/x.py::test_nothing"}]
)
def test_row_without_an_answer_is_found(changed: dict[str, str]) -> None:
    good = {"check": "1", "scope": "host", "result": "warn", "answer": "fixed", "reason": "a sentence with a reason"}
    assert faults(good) == []
    assert faults(good | changed) != []
