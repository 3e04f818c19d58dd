"""Text of tool servers, made safe to show: no control characters, no invisible characters, bounded."""

from __future__ import annotations

import re
import unicodedata

MOST_DESCRIPTION = 4000
MOST_LINE = 300
# Control, format, surrogate and private-use characters, and separators of lines and paragraphs.
DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
# A sentence ends with its mark, an empty line, or before a line that does not begin with a small letter.
SENTENCE = re.compile(r"(?<=[.!?])\s|\n\s*(?![a-z(])")


def clean(text: str, most: int = MOST_DESCRIPTION) -> str:
    """Text with newlines, but without other control or invisible characters, of at most ``most`` characters."""
    cut = text[: 2 * most].replace("\r\n", "\n").replace("\t", " ")
    shown = "".join(c for c in cut if c == "\n" or unicodedata.category(c) not in DROPPED)
    lines = "\n".join(line.rstrip() for line in shown.strip().split("\n"))
    return lines if len(lines) <= most else lines[: most - 1] + "…"


def one_line(text: str, most: int = MOST_LINE) -> str:
    """Cleaned text in one line."""
    line = " ".join(clean(text).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def summary(text: str, most: int = 120) -> str:
    """The first sentence of a description, in one line."""
    return one_line(SENTENCE.split(clean(text), maxsplit=1)[0], most)
