"""The sizes of JSON values; counting stops just beyond a bound. Pure."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

FEW_SEPARATORS = 1000
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[,\[{]', re.DOTALL)


def has_more_values(text: bytes, most: int) -> bool:
    """Whether JSON that was not parsed has more than ``most`` strings, separators and brackets."""
    # Counting characters is cheap and needs no memory. Large inputs have commas within strings: only TOKEN skips those.
    if sum(_count(text, separator) for separator in (b",", b"[", b"{")) <= most // 2:
        return False
    return next(islice(TOKEN.finditer(text), most, None), None) is not None


def _count(text: bytes, character: bytes) -> int:
    """The occurrences of a character. Finding a rare character is ten times as fast as counting it."""
    position = -1
    for number in range(FEW_SEPARATORS):
        position = text.find(character, position + 1)
        if position < 0:
            return number
    return FEW_SEPARATORS + text.count(character, position + 1)


def depth(value: object, most: int) -> int:
    """The number of levels of lists and objects."""
    level, found = [value], 0
    while level and found <= most:
        level = [child for node in level for child in _children(node)]
        found += bool(level)
    return found


def nodes(value: object, most: int) -> int:
    """The number of values in a value."""
    count, level = 0, [value]
    while level and count <= most:
        level = [child for node in level for child in _children(node)]
        count += len(level)
    return count


def _children(node: object) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
