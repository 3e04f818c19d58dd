"""Counts and cuts text in tokens of o200k_base, the encoding of current models of OpenAI.

Models of other vendors count differently: these figures are one measure for all.

``o200k_base.ranks.xz`` has the 199,998 ranks: their lengths (one byte each), then their bytes in order of rank, and is
compressed. Source: ``dist/ranks/o200k_base.js`` of the npm package js-tiktoken 1.0.21 (MIT licence). Written in the
form of tiktoken's own file their SHA-256 is :data:`RANKS_SHA256`, the value by which tiktoken checks its download.

No text is special: ``<|endoftext|>`` counts as the seven tokens of its characters. Work is linear for any text: long
text is counted in pieces.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken

RANKS = Path(__file__).with_name("o200k_base.ranks.xz")
RANKS_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
RANK_COUNT = 199_998
LETTERS = r"[^\r\n\p{L}\p{N}]?"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join(
    [
        f"{LETTERS}{UPPER}*{LOWER}+{CONTRACTION}",
        f"{LETTERS}{UPPER}+{LOWER}*{CONTRACTION}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
PIECE = 16_384  # characters that are encoded at once, since longer runs without a boundary take superlinear time
BOUNDARY = re.compile(r"\n(?=[0-9A-Za-z])")  # no token spans it
CUT_COST = 2  # tokens by which a cut at another place may reduce a count; never observed
MAX_TOKEN_CHARACTERS = 128
MAX_CHARACTER_TOKENS = 4  # a character has at most four bytes, and a token at least one


@cache
def encoding() -> tiktoken.Encoding:
    """The encoding, loaded once: a quarter of a second and 60 MB. Call it outside of requests."""
    import tiktoken  # with its ranks, which few processes need

    content = lzma.decompress(RANKS.read_bytes())
    ends = accumulate(content[:RANK_COUNT], initial=RANK_COUNT)
    ranks = {content[begin:end]: rank for rank, (begin, end) in enumerate(pairwise(ends))}
    return tiktoken.Encoding("o200k_base", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})


def count(text: str) -> int:
    """The number of tokens. Exact up to 16,384 characters, and for longer text with lines; else an upper bound."""
    if len(text) <= PIECE:
        return len(encoding().encode_ordinary(text))
    return sum(len(encoding().encode_ordinary(piece)) + cost for piece, cost in _pieces(text))


def exceeds(text: str, limit: int) -> bool:
    """Whether the text has more than ``limit`` tokens. Reads only as much text as necessary."""
    if len(text) * MAX_CHARACTER_TOKENS <= limit:
        return False
    counted = 0
    for piece, cost in _pieces(text):
        counted += len(encoding().encode_ordinary(piece)) + cost
        if counted > limit:
            return True
    return False


def prefix(text: str, limit: int) -> str:
    """The longest beginning of at most ``limit`` tokens, or a few fewer. Whole characters."""
    return _cut(text[: limit * MAX_TOKEN_CHARACTERS], limit, from_end=False)


def suffix(text: str, limit: int) -> str:
    """The longest end of at most ``limit`` tokens, or a few fewer. Whole characters."""
    return _cut(text[-limit * MAX_TOKEN_CHARACTERS :] if limit > 0 else "", limit, from_end=True)


def _cut(text: str, limit: int, from_end: bool) -> str:
    kept = limit
    while kept > 0 and exceeds(text, limit):
        near = text[-PIECE:] if from_end else text[:PIECE]
        ids = encoding().encode_ordinary(near)
        ids = ids[-kept:] if from_end else ids[:kept]
        text = encoding().decode_bytes(ids).decode(errors="ignore")
        kept -= 1
    return text if limit > 0 else ""


def _pieces(text: str) -> Iterator[tuple[str, int]]:
    begin = 0
    while len(text) - begin > PIECE:
        end, cost = begin + PIECE, CUT_COST
        for found in BOUNDARY.finditer(text, begin, end):
            end, cost = found.end(), 0
        yield text[begin:end], cost
        begin = end
    yield text[begin:], 0
