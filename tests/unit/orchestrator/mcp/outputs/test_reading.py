"""Pieces of an output are within their tokens for every client, and together the whole."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, get_args

import pytest

from orchestrator.mcp.budget import Carrier, count
from orchestrator.mcp.outputs.reading import piece_of, within
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
