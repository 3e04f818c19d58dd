"""The table of the resources that one sandbox can take: its rows, and its publication."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.bench.taken import measuring as taken
from tests.bench.taken.abuser import Abuser
from tests.bench.taken.abuses import ABUSES
from tests.bench.taken.hostile import Round, figures
from tests.bench.taken.takings import MIB, Counters, Memory
from tests.harness import ROOT

BEFORE = Counters(*(0.0,) * 11)


def row(name: str, **used: float) -> taken.Row:
    after = Counters(**{**vars(BEFORE), **used})
    memory = dict(vars(Memory(outside=300 * MIB, redis=0.0, api=1.0)))
    return taken.Row(name, "does this", {"timed_out": 2}, after.since(BEFORE, 2.0), memory, (0.1, 0.2, 0.4))


@pytest.mark.parametrize("name", ABUSES)
def test_every_abuse_can_be_run(name: str) -> None:
    abuse = ABUSES[name]
    assert bool(abuse.code) != bool(abuse.client)
    assert abuse.client is None or callable(getattr(Abuser, abuse.client))
    ast.parse(abuse.body()["code"])


def test_row_reports_difference_to_an_idle_neighbour() -> None:
    idle = taken.Row("", "nothing", {}, BEFORE.since(BEFORE, 1.0), dict(vars(Memory())), (0.1, 0.1))
    found = dict(zip(taken.COLUMNS, row("x", busy=3.0, sandboxes=1.0, ours=0.5, worker=1.0).cells(idle), strict=True))
    assert found["CPU charged"] == "0.50"
    assert found["CPU not charged"] == "0.75"  # of three seconds in two, without what is charged and what measured
    assert found["worker"] == "0.50"
    assert found["memory not charged"] == "300 MB"
    assert (found["neighbour p50"], found["p99"]) == ("2.0 ×", "4.0 ×")
    assert (found["one sandbox that …"], found["ends"]) == ("does this", "timed_out")


def test_publishing_replaces_only_its_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken, "ROOT", tmp_path)
    page = tmp_path / "SECURITY.md"
    page.write_text(f"# Security\n\n{taken.HEADING}old\n\n## After\nkept\n")
    taken.publish(f"{taken.HEADING}new\n")
    assert page.read_text() == f"# Security\n\n{taken.HEADING}new\n\n## After\nkept\n"


def test_published_section_is_up_to_date() -> None:
    assert f"{taken.HEADING}{taken.INTRODUCTION}" in (ROOT / "SECURITY.md").read_text()


def test_one_slow_round_decides_no_figure_of_an_innocent() -> None:
    usual: Round = {"idle": [0.010] * 99 + [0.5], "output": [0.020] * 99 + [0.5], "queue": [0.030] * 98 + [0.040] * 2}
    slow: Round = {"idle": [0.010] * 100, "output": [0.9] * 100, "queue": [0.9] * 100}
    expected = {"innocent_output": pytest.approx(2.0), "innocent_queue": pytest.approx(4.0)}
    assert expected == figures([usual, slow, usual])
