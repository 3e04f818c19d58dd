"""Programs that were written by hand for recorded runs: they end in the run's state, and know what they have read."""

from __future__ import annotations

import ast
import json
import lzma

import pytest

from tests.bench.tokens.trajectories.counting import by_hand
from tests.bench.tokens.trajectories.model import Call, Exchange, Trajectory
from tests.bench.tokens.trajectories.record import COUNTS
from tests.bench.tokens.trajectories.whole import classes
from tests.bench.tokens.trajectories.written import PLACE, PROGRAMS, checked, filled, parsed, written

LISTED = "\n".join(f"line {number} has word_{number * 7919}" for number in range(3000))
CALLS = (
    Call("recorded.files_read_file", {"path": "a"}, LISTED),
    Call("recorded.local_execute", {"code": "print(1)"}, "1"),
    Call("recorded.files_write_file", {"path": "b", "content": "word_7919"}, "ok"),
    Call("recorded.files_write_file", {"path": "c", "content": {"deep": ["x" * 9]}}, "ok"),
    Call("recorded.files_read_file", {"path": "none"}, "Error: none", failed=True),
)
NOTES = "changes 2 3\nleaves 1: it computes\n"
GOOD = """---
from mayfly import tools
text = tools.files.read_file(path="a")
print(text.splitlines()[1])
--- 800
from mayfly import tools
print(tools.files.write_file(path="b", content="word_7919"), tools.files.write_file(**<<3>>))
"""


def test_file_has_programs_with_their_notes() -> None:
    found = parsed(NOTES + GOOD)
    assert (found.changes, found.leaves, found.in_order) == ((2, 3), frozenset({1}), True)
    assert [program.most_tokens for program in found.programs] == [500, 800]
    assert not parsed(f"unordered: they are apart\n{NOTES}{GOOD}").in_order


def test_places_are_filled_with_words_of_the_run() -> None:
    assert filled("f(<<2.content>>, <<3.content.deep.0>>)", CALLS) == "f('word_7919', 'xxxxxxxxx')"
    assert filled("f(**<<2>>)", CALLS) == "f(**{'path': 'b', 'content': 'word_7919'})"


def test_programs_end_in_the_state_of_the_run() -> None:
    first, second = checked(CALLS, parsed(NOTES + GOOD))
    assert (first.printed, first.results) == ("line 1 has word_7919\n", (LISTED,))
    assert second.printed == "ok ok\n"


@pytest.mark.parametrize(
    ("before", "after", "mistake"),
    [
        ('content="word_7919"', 'content="other"', "files_write_file"),  # another change
        (", tools.files.write_file(**<<3>>)", "", "files_write_file"),  # a change is missing
        ("**<<3>>", "**<<2>>", "out of turn"),  # a change twice
        ("print(tools", "tools.files.write_file(**<<3>>)\nprint(tools", "turn"),  # another order
        ('path="a"', 'path="d"', "files_read_file"),  # what the run did not read
        ("leaves 1: it computes\n", "", "local_execute"),  # a call that may change something, without a note
        ("changes 2 3", "changes 3", "files_write_file"),
    ],
)  # fmt: skip
def test_programs_that_end_in_another_state_are_noticed(before: str, after: str, mistake: str) -> None:
    text = NOTES + GOOD
    assert before in text
    with pytest.raises(AssertionError, match=mistake):
        checked(CALLS, parsed(text.replace(before, after)))


def test_order_matters_unless_the_notes_have_a_reason() -> None:
    swapped = (
        NOTES + "---\nfrom mayfly import tools\ntools.files.write_file(**<<3>>)\ntools.files.write_file(**<<2>>)\n"
    )
    with pytest.raises(AssertionError, match="out of turn"):
        checked(CALLS, parsed(swapped))
    assert len(checked(CALLS, parsed(f"unordered: two files\n{swapped}"))) == 1


def test_word_that_was_not_read_costs_a_further_program() -> None:
    def turns(printed: str, answer: str = "") -> int:
        trajectory = Trajectory("t", (Exchange("Write a file.", tuple((call,) for call in CALLS), answer),), 0)
        programs = parsed(NOTES + GOOD.replace("print(text.splitlines()[1])", printed))
        return len(by_hand(trajectory, checked(CALLS, programs), [], reads=True).turns)

    assert turns("print(text.splitlines()[1])") == 2
    assert turns("print(len(text))") == 3
    assert turns("print(text.splitlines()[1])", answer="It is word_15838.") == 3


def test_every_recorded_run_has_programs() -> None:
    counted = [row for row in json.loads(lzma.decompress(COUNTS.read_bytes())) if row["kind"] == "Toolathlon"]
    assert {row["id"] for row in counted} == {path.stem for path in PROGRAMS.glob("*.txt")}
    for row in counted:
        programs = written(row["id"]).programs
        assert sum(turn[3] for turn in row["by hand"][0]["turns"]) == len(programs)
        for program in programs:
            ast.parse(PLACE.sub("{}", program.code))


def test_large_results_cost_a_tenth() -> None:
    large = next(found for name, found in classes().items() if name.startswith("results"))
    assert sum(row.ours.results for row in large) <= 0.1 * sum(row.direct.results for row in large)
