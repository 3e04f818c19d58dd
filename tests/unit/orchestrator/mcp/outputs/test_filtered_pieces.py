"""Personal data that lies across two pieces, or across the bound of a shown line, is in none of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.mcp.budget.personal_data import PersonalDataFilter
from orchestrator.mcp.outputs.reading import Piece, cleaned, piece_of
from orchestrator.mcp.outputs.searching import MOST_SHOWN, compiled, matches
from orchestrator.mcp.outputs.sources import Memory

VALUES = {
    "EMAIL": "ann.b@mail.example.org",
    "CARD": "4111 1111 1111 1111",
    "ACCOUNT": "DE89 3704 0044 0532 0130 00",
    "PHONE": "+49 30 1234567",
    "KEY": "AKIA" + "IOSFODNN7EXAMPLE",
}
NUMBER = re.compile(r"\[([A-Z]+)_\d+\]")
Clean = Callable[[Piece, Memory, PersonalDataFilter], Piece]


def unnumbered(text: str) -> str:
    return NUMBER.sub(r"[\1]", text)


def pieces(data: bytes, tokens: int, clean: Clean = cleaned) -> list[Piece]:
    source, offset, found = Memory(data), 0, []
    while offset < source.size:
        piece = clean(piece_of(source, offset, tokens), source, PersonalDataFilter())
        assert piece.next_offset > offset
        found.append(piece)
        offset = piece.next_offset
    return found


def each_by_itself(piece: Piece, source: Memory, clean: PersonalDataFilter) -> Piece:
    return replace(piece, content=clean(piece.content))


@pytest.mark.parametrize("tokens", [1, 2, 3, 5, 8, 20])
@pytest.mark.parametrize("kind", VALUES)
def test_pieces_together_are_the_filtered_whole(kind: str, tokens: int) -> None:
    text = f"é of {VALUES[kind]}; " * 12 + "end"
    shown = "".join(piece.content for piece in pieces(text.encode(), tokens))
    assert unnumbered(shown) == f"é of [{kind}]; " * 12 + "end"


def test_control_pieces_filtered_by_themselves_show_parts_of_values() -> None:
    text = f"é of {VALUES['EMAIL']}; " * 12
    shown = "".join(piece.content for piece in pieces(text.encode(), 3, each_by_itself))
    assert "example" in shown


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*VALUES.values(), "word ", "é", "\n", "1", "@", "\t", "x" * 40])), st.integers(1, 12))
def test_no_part_of_a_value_is_in_any_piece(parts: list[str], tokens: int) -> None:
    text = " ".join(parts)
    whole = PersonalDataFilter()(text)
    shown = [piece.content for piece in pieces(text.encode(), tokens)]
    assert unnumbered("".join(shown)) == unnumbered(whole)


@pytest.mark.parametrize("kind", VALUES)
def test_piece_that_begins_within_a_value_shows_a_label(kind: str) -> None:
    value = VALUES[kind]
    source = Memory(f"of {value} and".encode())
    for offset in range(4, 3 + len(value)):
        piece = cleaned(piece_of(source, offset, 100), source, PersonalDataFilter())
        assert piece.content == f"[{kind}_1] and"


def test_binary_piece_with_personal_data_comes_as_filtered_text() -> None:
    source = Memory(b"\0\xff " + VALUES["EMAIL"].encode() + b" \0" * 40)
    piece = cleaned(piece_of(source, 0, 50), source, PersonalDataFilter())
    assert piece.encoding == "utf-8"
    assert "[EMAIL_1]" in piece.content and "example" not in piece.content
    plain = Memory(b"\0\xff\x01" * 40)
    assert cleaned(piece_of(plain, 0, 50), plain, PersonalDataFilter()).encoding == "base64"


def test_shown_part_of_a_long_line_ends_before_a_value() -> None:
    line = b"x" * (MOST_SHOWN - 10) + b" " + VALUES["EMAIL"].encode() + b" tail"
    (unfiltered,) = matches(Memory(line), compiled("x"), 0)
    assert "ann.b@" in unfiltered.text
    (found,) = matches(Memory(line), compiled("x"), 0, PersonalDataFilter())
    assert "ann" not in found.text
    assert found.text.startswith("x" * (MOST_SHOWN - 10))


def test_lines_of_a_private_key_are_replaced_within_several_lines() -> None:
    line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
    assert PersonalDataFilter()(f"a\n{line}\r\n{line}\nb") == "a\n[KEY_1]\n[KEY_1]\nb"
