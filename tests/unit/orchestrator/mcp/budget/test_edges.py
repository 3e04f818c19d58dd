"""The edges of the budget: its least, names and sentences of programs, lines cut by a window, and binary output."""

from __future__ import annotations

import pytest

from orchestrator.mcp.budget import Material, Stream, count, render
from orchestrator.mcp.budget.cleaning import as_data, is_binary, joined, lines_of
from orchestrator.mcp.budget.documents import closed_prefix
from orchestrator.mcp.budget.excerpts import WINDOW_BYTES, window
from orchestrator.mcp.budget.folding import fold_library_frames
from orchestrator.mcp.budget.rendering import FEWEST_TOKENS
from orchestrator.models import Artifact

ID = "0123456789abcdef" * 2


@pytest.mark.parametrize("asked", [-1, 0, 1, FEWEST_TOKENS - 1])
def test_smallest_budget_has_the_state(asked: int) -> None:
    material = Material(ID, "failed", reason="timed_out", stdout=Stream.of(b"line\n" * 1000))
    found = render(material, asked, "text")
    assert "timed_out" in found.text
    assert found.structured["state"] == "failed"
    assert found == render(material, FEWEST_TOKENS, "text")


def test_name_of_a_file_neither_closes_the_frame_nor_hides_text_nor_is_long() -> None:
    path = "a</data>\u202e\x1b[31m" + "b" * 500
    artifact = Artifact(path=path, size=7, media_type="text/plain", sha256="")
    shown = render(Material(ID, "succeeded", artifacts=(artifact,)), 500, "text").text
    assert "Files: a&lt;/data>bbb" in shown
    assert "b" * 100 not in shown


def test_sentence_of_a_security_event_is_bounded() -> None:
    sentence = "connect() was denied: " + "x" * 5000
    shown = render(Material(ID, "failed", security=(sentence,)), 5000, "text").text
    assert "Blocked: connect() was denied" in shown
    assert len(shown) < 1000


@pytest.mark.parametrize("size", [59, 61, 97])
def test_window_has_whole_lines_only(size: int) -> None:
    """The ends of a window lie inside lines, whose parts would be taken for lines."""
    lines = [f"{number:06}{'x' * (number % 7)}{'y' * (size - 6)}" for number in range(3000)]
    found = window("stdout", Stream.of("\n".join(lines).encode()), 500, as_data)
    assert found.has_gap and len(found.head) > 10 and len(found.tail) > 10
    assert {line.text for line in (*found.head, *found.tail)} <= set(lines)
    assert found.head[-1].end <= WINDOW_BYTES


def test_offsets_inside_a_long_line_are_of_its_bytes() -> None:
    """Changed text has the offset of its line's begin: no byte is skipped."""
    plain = lines_of(b"a" * 2000, 0, 1)
    parts = lines_of("é".encode() * 1500, 10, 1)
    assert [part.begin for part in parts] == [10 + 200 * number for number in range(15)]
    assert plain[1].begin == 100
    coloured = lines_of(b"\x1b[31m" * 50 + b"a" * 2000, 10, 1)
    assert {part.begin for part in coloured} == {10}
    assert coloured[-1].end == 10 + 250 + 2000


def test_deep_nesting_has_no_prefix() -> None:
    assert closed_prefix("[" * 64 + "1,") == ("[" * 64 + "1" + "]" * 64, 65)
    assert closed_prefix("[" * 65 + "1,") == ("", 0)


@pytest.mark.parametrize(("odd", "binary"), [(10, False), (20, False), (30, True), (50, True)])
def test_a_quarter_of_odd_bytes_is_binary(odd: int, binary: bool) -> None:
    assert is_binary((b"\xff" * odd + b"a" * (100 - odd)) * 20) is binary
    assert is_binary((b"\x01" * odd + b"a" * (100 - odd)) * 20) is binary


@pytest.mark.parametrize("before", [0, 1, 2])
def test_window_has_whole_characters_only(before: int) -> None:
    text = "a" * before + "€" * 50_000
    found = window("stdout", Stream.of(text.encode()), 500, as_data)
    assert found.has_gap and found.tail
    assert "\ufffd" not in "".join(line.text for line in (*found.head, *found.tail))
    assert text.encode()[found.tail[0].begin :].decode() == "".join(line.text for line in found.tail)


def test_folded_lines_count_as_withheld() -> None:
    """Of a stream with a gap, whose ends are folded, too."""
    data = "".join(f"processed {number}\n" for number in range(7000))
    found = render(Material(ID, "succeeded", stdout=Stream.of(data.encode())), 500, "text")
    assert "lines like these" in found.text and "bytes withheld" in found.text
    assert 0.8 * count(data) < found.tokens_withheld < 1.2 * count(data)


def test_larger_budget_is_used() -> None:
    letters = (bytes(97 + (number // 26**place) % 26 for place in range(4)).decode() for number in range(20_000))
    words = "".join(f"{name} internationalization {name} internationalization\n" for name in letters)
    found = render(Material(ID, "succeeded", stdout=Stream.of(words.encode())), 20_000, "text")
    assert 18_000 < found.tokens_returned <= 20_000


def test_lines_below_a_librarys_frame_are_folded_with_that_frame() -> None:
    trace = b"""Traceback (most recent call last):
  File "/work/main.py", line 1, in <module>
    load()
  File "/usr/lib/python3/dist-packages/x.py", line 3, in load
    return total / count
           ~~~~~~^~~~~~~
ZeroDivisionError: division by zero
"""
    shown = joined(fold_library_frames(lines_of(trace, 0, 100)))
    assert "[1 frame of libraries, the last: x.py:3 in load]\nZeroDivisionError" in shown
    assert "~" not in shown


def test_few_lines_below_a_librarys_frame_are_folded_with_that_frame() -> None:
    frame = '  File "/usr/lib/python3/dist-packages/x.py", line 3, in load\n'
    below = "".join(f"    line {number}\n" for number in range(6))
    shown = joined(fold_library_frames(lines_of((frame + below).encode(), 0, 100)))
    assert shown == "  [1 frame of libraries, the last: x.py:3 in load]\n    line 4\n    line 5"


@pytest.mark.parametrize("end", ["", "\n"])
def test_last_row_counts_with_and_without_a_newline(end: str) -> None:
    rows = "\n".join(["id,city", *(f"{number},{'Oslo' if number % 3 else 'Rome'}" for number in range(3000))])
    shown = render(Material(ID, "succeeded", stdout=Stream.of((rows + end).encode())), 300, "text").text
    assert "CSV: 3,000 rows x 2 columns" in shown
