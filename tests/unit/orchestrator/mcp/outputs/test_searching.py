"""Lines that match, and where lines begin, in sources of several blocks."""

from __future__ import annotations

import pytest

from orchestrator.errors import ValidationFailed
from orchestrator.mcp.outputs.searching import compiled, matches
from orchestrator.mcp.outputs.sources import BLOCK_BYTES, Memory, line_at, offset_of_line

LINES = [f"{number} {'needle' if number % 5000 == 0 else 'hay'} {'x' * (number % 90)}" for number in range(1, 20_001)]
DATA = "\n".join(LINES).encode()
SOURCE = Memory(DATA)


def test_matches_have_their_line_numbers_in_every_block() -> None:
    assert len(DATA) > 3 * BLOCK_BYTES
    found = list(matches(SOURCE, compiled("needle"), 0))
    assert [one.line for one in found] == [5000, 10_000, 15_000, 20_000]
    assert [one.text for one in found] == [LINES[one.line - 1] for one in found]
    later = matches(SOURCE, compiled("needle"), found[0].next_offset)
    assert [one.line for one in later] == [10_000, 15_000, 20_000]


def test_no_line_is_cut_by_a_block() -> None:
    found = list(matches(SOURCE, compiled("^[0-9]+ (hay|needle) x*$"), 0))
    assert [one.line for one in found] == list(range(1, len(LINES) + 1))
    assert [one.text for one in found] == LINES


@pytest.mark.parametrize(
    ("expression", "lines"), [(r"\z", []), ("$", [1, 2]), ("^", [1, 2]), (r"a\nb", []), ("b|", [1, 2])]
)
def test_match_is_within_one_line(expression: str, lines: list[int]) -> None:
    assert [one.line for one in matches(Memory(b"a\nb\n"), compiled(expression), 0)] == lines


@pytest.mark.parametrize(("size", "shown"), [(400, "x" * 400), (401, "x" * 400 + "… [1 bytes more]")])
def test_long_lines_that_match_are_shortened(size: int, shown: str) -> None:
    assert [one.text for one in matches(Memory(b"x" * size), compiled("x"), 0)] == [shown]


@pytest.mark.parametrize("expression", ["((x{100}){10}){10}", r"\pL{300}"], ids=["more than RE2 allows", "a few MB"])
def test_memory_of_an_expression_is_bounded(expression: str) -> None:
    assert compiled("(x{100}){10}")
    with pytest.raises(ValidationFailed) as refused:
        compiled(expression)
    assert refused.value.code == "invalid_grep"


@pytest.mark.parametrize("line", [1, 2, 5000, 7321, 20_000])
def test_lines_are_found_by_number(line: int) -> None:
    offset = offset_of_line(SOURCE, line)
    assert DATA[offset:].split(b"\n", 1)[0].decode() == LINES[line - 1]
    assert line_at(SOURCE, offset) == line
