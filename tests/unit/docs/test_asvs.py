"""``docs/asvs.csv`` answers each requirement of OWASP ASVS 5.0 of the levels 1 and 2, and names tests that exist."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.harness import ROOT
from tests.readiness.named_tests import is_test

# By section, the level of each of its requirements, whose numbers begin at 1; those of level 3 come behind them.
LEVELS = {
    "V1.1": "22", "V1.2": "111112222", "V1.3": "11222222222", "V1.4": "222", "V1.5": "12", "V2.1": "122",
    "V2.2": "112", "V2.3": "1222", "V2.4": "2", "V3.2": "11", "V3.3": "1222", "V3.4": "112222", "V3.5": "11122",
    "V3.7": "22", "V4.1": "122", "V4.2": "2", "V4.3": "22", "V4.4": "1222", "V5.1": "2", "V5.2": "112", "V5.3": "11",
    "V5.4": "222", "V6.1": "122", "V6.2": "111111112222", "V6.3": "1122", "V6.4": "1122", "V6.5": "22222",
    "V6.6": "222", "V6.8": "2222", "V7.1": "222", "V7.2": "1111", "V7.3": "22", "V7.4": "11222", "V7.5": "22",
    "V7.6": "22", "V8.1": "12", "V8.2": "112", "V8.3": "1", "V8.4": "2", "V9.1": "111", "V9.2": "1222", "V10.1": "22",
    "V10.2": "22", "V10.3": "2222", "V10.4": "11111222222", "V10.5": "22222", "V10.6": "22", "V10.7": "222",
    "V11.1": "22", "V11.2": "222", "V11.3": "112", "V11.4": "1222", "V11.5": "2", "V11.6": "2", "V12.1": "122",
    "V12.2": "11", "V12.3": "2222", "V13.1": "2", "V13.2": "22222", "V13.3": "22", "V13.4": "12222", "V14.1": "22",
    "V14.2": "1222", "V14.3": "122", "V15.1": "122", "V15.2": "122", "V15.3": "1222222", "V16.1": "2",
    "V16.2": "22222", "V16.3": "2222", "V16.4": "222", "V16.5": "222", "V17.1": "2", "V17.2": "2222", "V17.3": "22",
}  # fmt: skip


class Row(NamedTuple):
    """One requirement. ``tests``: paths below ``tests/`` with names."""

    id: str
    level: str
    state: str
    reason: str
    tests: tuple[str, ...]


def rows() -> list[Row]:
    with (ROOT / "docs" / "asvs.csv").open(encoding="utf-8", newline="") as file:
        return [
            Row(line["id"], line["level"], line["state"], line["reason"], tuple(line["test"].split()))
            for line in csv.DictReader(file)
        ]


def mistakes(row: Row) -> Iterator[str]:
    if row.state not in ("holds", "not applicable", "open"):
        yield f"{row.state!r} is no state"
    if not row.reason:
        yield "no reason"
    if (row.state == "holds") != bool(row.tests):
        yield "tests belong to what holds, and to nothing else"
    for test in row.tests:
        if "::" not in test or not is_test(f"tests/{test}", ROOT):
            yield f"there is no test {test}"


def test_each_requirement_is_answered_once() -> None:
    wanted = [(f"{section}.{n}", level) for section, levels in LEVELS.items() for n, level in enumerate(levels, 1)]
    assert [(row.id, row.level) for row in rows()] == wanted
    assert len(wanted) == 70 + 183


def test_answer_names_existing_tests_or_a_reason() -> None:
    assert {row.id: found for row in rows() if (found := list(mistakes(row)))} == {}


@pytest.mark.parametrize(
    "row",
    [
        Row("x", "1", "holds", "r", ()),
        Row("x", "1", "holds", "r", ("unit/orchestrator/test_asvs.py::test_absent",)),
        Row("x", "1", "holds", "r", ("unit/tests/test_absent.py::test_x",)),
        Row("x", "1", "open", "", ()),
        Row("x", "1", "likely", "r", ()),
        Row("x", "1", "open", "r", ("unit/orchestrator/test_asvs.py::rows",)),
    ],
)
def test_mistake_in_a_row_is_found(row: Row) -> None:
    assert list(mistakes(row))
