"""Tokens are counted as tiktoken counts them, of any text, in linear time."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.mcp.budget import tokens


def test_ranks_are_those_that_tiktoken_downloads() -> None:
    encoding = tokens.encoding()
    ranks = (encoding.decode_single_token_bytes(rank) for rank in range(tokens.RANK_COUNT))
    written = "".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(ranks))
    assert hashlib.sha256(written.encode()).hexdigest() == tokens.RANKS_SHA256


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("hello world", 2),
        ("<|endoftext|>", 7),
        ("<|endofprompt|><|im_start|>", 12),
        ("def f(x):\n    return x + 1\n", 11),
        ("Zażółć gęślą jaźń 中文 🙂", 13),
    ],
)
def test_texts_have_their_known_counts(text: str, count: int) -> None:
    assert tokens.count(text) == count


@given(st.text(max_size=200), st.integers(0, 30))
def test_prefix_and_suffix_are_parts_within_the_limit(text: str, limit: int) -> None:
    text = text.encode(errors="replace").decode()
    begin, end = tokens.prefix(text, limit), tokens.suffix(text, limit)
    assert text.startswith(begin) and text.endswith(end)
    assert max(tokens.count(begin), tokens.count(end)) <= limit
    assert tokens.exceeds(text, limit) is (tokens.count(text) > limit)
    if tokens.count(text) <= limit:
        assert begin == end == text


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from(["a", " ", "word ", "\n", "12", "\n\n", "é", "/", "🙂", "}\n"]), min_size=1),
    st.integers(1, 9),
)
def test_long_text_is_counted_exactly_or_a_little_above(parts: list[str], times: int) -> None:
    text = "".join(parts) * (times * tokens.PIECE // len("".join(parts)))
    exact = len(tokens.encoding().encode_ordinary(text))
    assert exact <= tokens.count(text) <= exact + (len(text) // tokens.PIECE + 1) * (tokens.CUT_COST + 2)


@pytest.mark.parametrize("character", ["a", " ", "\n", "!", "é", "\t"])
def test_cost_of_a_long_run_is_linear(character: str) -> None:
    def seconds(length: int) -> float:
        begin = time.thread_time()
        tokens.count(character * length)
        return time.thread_time() - begin

    tokens.encoding()
    small = min(seconds(100_000) for _ in range(3))
    assert seconds(1_000_000) < 30 * small  # quadratic would be 100 times


def test_limit_bounds_the_text_that_is_read() -> None:
    text = "word " * 2_000_000

    def seconds(limit: int) -> float:
        begin = time.thread_time()
        assert tokens.exceeds(text, limit)
        return time.thread_time() - begin

    tokens.encoding()
    assert min(seconds(500) for _ in range(3)) < seconds(1_000_000) / 10
