"""The table of docker-bench-security's findings answers each of them, with tests that exist."""

from __future__ import annotations

import csv
import re

import pytest

from tests.harness import ROOT

RESULTS = {"pass", "info", "note", "warn", "not run"}
ANSWERS = {"holds", "fixed", "explained", "operator"}


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


@pytest.mark.parametrize(
    "changed", [{"result": "WARN"}, {"answer": "ticked"}, {"reason": ""}, {"reason": "tests/unit/x.py::test_nothing"}]
)
def test_row_without_an_answer_is_found(changed: dict[str, str]) -> None:
    good = {"check": "1", "scope": "host", "result": "warn", "answer": "fixed", "reason": "a sentence with a reason"}
    assert faults(good) == []
    assert faults(good | changed) != []
