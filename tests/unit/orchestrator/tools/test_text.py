"""Text of tool servers is shown without what could mislead a reader or a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.tools.text import DROPPED, clean, one_line, summary


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a\r\nb\tc  \n", "a\nb c"),
        ("a\x00\x1b[31mb\x07", "a[31mb"),
        ("a\u200bb\u202ec\u2028d\ufeff\U000e0041", "abcd"),
        ("\ud800x", "x"),
    ],
)
def test_invisible_characters_are_removed(text: str, expected: str) -> None:
    assert clean(text) == expected


@given(st.text(alphabet=st.characters(), max_size=300), st.integers(1, 200))
def test_cleaned_text_is_short_and_visible(text: str, most: int) -> None:
    for found, newline in ((clean(text, most), "\n"), (one_line(text, most), "")):
        assert len(found) <= most
        assert all(c == newline or unicodedata.category(c) not in DROPPED for c in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Get a thing. It is large.", "Get a thing."),
        ("Describe a sheet: used range,\ncharts and notes. More.", "Describe a sheet: used range, charts and notes."),
        ("Retrieve a user\nError Responses:\n400", "Retrieve a user"),
        ("Title\n\nmore", ["Title", "", "more"][0]),
        ("x" * 500, "x" * 119 + "…"),
        ("", ""),
    ],
)
def test_summary_is_the_first_sentence(text: str, expected: str) -> None:
    assert summary(text) == expected


def test_a_long_text_costs_no_more_than_its_beginning() -> None:
    assert clean("\u200b" * 10_000_000 + "x", 100) == ""
