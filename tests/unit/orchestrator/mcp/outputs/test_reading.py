"""Pieces of an output are within their tokens for every client, and together the whole."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, get_args

import pytest

from orchestrator.mcp.budget import Carrier, count
from orchestrator.mcp.outputs.reading import matching, piece_of, within
from orchestrator.mcp.outputs.searching import compiled
from orchestrator.mcp.outputs.sources import Memory

SOURCES = {
    "words": b"one two three\n" * 2000,
    "quotes": b'"\\"\\' * 4000,
    "characters": "€é🙂".encode() * 3000,
    "spaces": b" " * 20_000,
    "lines": b"\n" * 5000,
}


@pytest.mark.parametrize("carrier", get_args(Carrier))
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("limit", [100, 500])
def test_pieces_are_within_their_tokens_and_together_the_whole(carrier: Carrier, name: str, limit: int) -> None:
    data, offset, read = SOURCES[name], 0, ""
    while offset < len(data):
        found = within(limit, carrier, partial(piece_of, Memory(data), offset))
        structured: dict[str, Any] = found.structured_content or {}
        texts = [block.text for block in found.content if block.type == "text"]
        written = json.dumps(structured, ensure_ascii=False, separators=(",", ":"))
        assert sum(map(count, texts)) + count(written) <= limit
        read += texts[0] if carrier == "text" else structured["content"]
        offset = structured.get("next_offset", len(data))
    assert read.encode() == data


def test_one_search_finds_at_most_a_thousand_lines() -> None:
    source, expression = Memory(b"x\n" * 1500), compiled("x")
    first = matching(expression, None, source, 0, 100_000)
    assert first.content.splitlines() == [f"{number}:x" for number in range(1, 1001)]
    assert (first.next_offset, first.is_last) == (2000, False)
    rest = matching(expression, None, source, first.next_offset, 100_000)
    assert rest.content.splitlines() == [f"{number}:x" for number in range(1001, 1501)]
    assert rest.is_last


def test_search_within_few_tokens_finds_one_line_at_least() -> None:
    found = matching(compiled("needle"), None, Memory(b"hay\nneedle\nneedle\n"), 0, 1)
    assert (found.content, found.next_offset, found.is_last) == ("2:needle", 11, False)


@pytest.mark.parametrize("data", [SOURCES["words"], bytes(range(256)) * 200], ids=["text", "binary"])
def test_piece_uses_its_tokens(data: bytes) -> None:
    found = within(1000, "text", partial(piece_of, Memory(data), 0))
    texts = [block.text for block in found.content if block.type == "text"]
    assert sum(map(count, texts)) > 900


def test_text_with_null_characters_is_text_wherever_a_piece_ends() -> None:
    source = Memory("a\0€".encode() * 5000)
    assert {piece_of(source, 0, tokens).encoding for tokens in range(100, 105)} == {"utf-8"}
