"""Summarises JSON by its shape: keys, types, counts and a few elements. Never cuts inside an element.

A document of up to :data:`WHOLE_BYTES` is parsed completely, in a few milliseconds. Parsing 10 MB takes a fifth of a
second, in which the process would answer no other request. So a larger document has an outline, with exact counts and
elements from the whole document. Without an outline the first :data:`PREFIX_BYTES` are parsed up to the last complete
element, and the summary states that.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.mcp.budget import tokens
from orchestrator.mcp.budget.cleaning import Filter
from orchestrator.mcp.budget.material import SampledList, SampledObject, Stream

WHOLE_BYTES = 512 * 1024
PREFIX_BYTES = 32 * 1024
MOST_DEPTH = 64  # of a document's prefix whose brackets are closed
SAMPLED = 200  # elements of a list whose types are examined
MOST_KEYS = 40
FEW_KEYS = 8
LITERAL_CHARACTERS = 40
ROW_CHARACTERS = 2000
MOST_ROWS = 6
FEWEST_LINES = 3  # of JSON lines
STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)  # a string without an end reaches to the end


class Shape(Protocol):
    """A value that can be summarised."""

    def within(self, limit: int) -> str:
        """A summary of at most ``limit`` tokens; empty if every summary is longer."""
        ...


@dataclass(frozen=True)
class Document:
    """A parsed JSON document, or JSON lines as a list. ``read_bytes`` is below the total if only a prefix was read."""

    value: Any
    kind: str
    total_bytes: int
    read_bytes: int
    clean: Filter

    def within(self, limit: int) -> str:
        """The most detailed summary that fits, and elements of a list as long as they fit."""
        for depth in (4, 3, 2, 1):
            summary = f"{self._heading()}\n{self.clean(shape_of(self.value, depth))}"
            if not tokens.exceeds(summary, limit):
                return summary + self._rows(limit - tokens.count(summary))
        heading = self._heading()
        return "" if tokens.exceeds(heading, limit) else heading

    def _heading(self) -> str:
        size = f"{self.kind}, {self.total_bytes:,} bytes"
        if self.read_bytes < self.total_bytes:
            size += f"; shape of the first {self.read_bytes:,} bytes"
            about = len(self.value) * self.total_bytes // max(1, self.read_bytes)
            if isinstance(self.value, list) and self.value:
                size += f", about {about:,} elements in all"
            elif len(self.value) > MOST_KEYS:  # with few keys, the last may have most of the document
                size += f", about {about:,} keys in all"
        return size

    def _rows(self, limit: int) -> str:
        name, rows = longest_list(self.value)
        if not rows:
            return ""
        whole = self.read_bytes >= self.total_bytes
        positions = rows.positions if isinstance(rows, SampledList) else range(len(rows))
        numbers = [*range(min(3, len(rows))), *([len(rows) - 1] if whole and len(rows) > 3 else [])]
        numbers += range(3, min(len(rows) - 1, MOST_ROWS))
        shown: dict[int, str] = {}
        for number in numbers:
            text = compact(rows[number])
            if len(text) > ROW_CHARACTERS or isinstance(rows[number], SampledList | SampledObject):
                break
            line = f"\n{name}[{positions[number]}] {self.clean(text)}"
            if (limit := limit - tokens.count(line) - 1) < 0:
                break
            shown[number] = line
        return "".join(shown[number] for number in sorted(shown))


def document(stream: Stream, clean: Filter, whole_bytes: int = WHOLE_BYTES) -> Document | None:
    """A stream's JSON document or JSON lines; ``None`` for other streams."""
    start = stream.head[:256].lstrip()
    if start[:1] not in (b"{", b"["):
        return None
    total = stream.total_bytes
    if stream.outline is not None:
        return Document(stream.outline.value, stream.outline.kind, total, total, clean)
    if stream.is_complete and total <= whole_bytes:
        text = (stream.head + stream.tail).decode(errors="replace")
        value = _parsed(text)
        if isinstance(value, dict | list):
            return Document(value, "JSON", total, total, clean)
        rows = _json_lines(text.splitlines())
        return Document(rows, "JSON lines", total, total, clean) if rows else None
    text = stream.head[:PREFIX_BYTES].decode(errors="replace")
    lines = text.split("\n")
    if len(lines) > FEWEST_LINES and (rows := _json_lines(lines[:-1])):
        size = sum(len(line.encode()) + 1 for line in lines[:-1])
        return Document(rows, "JSON lines", total, size, clean)
    closed, used = closed_prefix(text)
    value = _parsed(closed)
    if not isinstance(value, dict | list) or not value:
        return None
    _drop_incomplete(value)
    return Document(value, "JSON", total, len(text[:used].encode()), clean)


def closed_prefix(text: str) -> tuple[str, int]:
    """The beginning of a JSON document up to its last complete element, with all brackets closed, and its length.

    Nested deeper than 64 levels it is empty.
    """
    opened: list[str] = []
    cut, closers = 0, ""
    for found in STRUCTURE.finditer(text):
        mark = found[0]
        if mark in ("{", "["):
            opened.append("}" if mark == "{" else "]")
            if len(opened) > MOST_DEPTH:
                return "", 0
        elif mark in ("}", "]"):
            if not opened or opened.pop() != mark:
                return "", 0
            cut, closers = found.end(), "".join(reversed(opened))
        elif mark == ",":
            cut, closers = found.start(), "".join(reversed(opened))
    return text[:cut] + closers, cut


def _drop_incomplete(value: Any) -> None:
    """Remove the last element of the list that a prefix ends in: it may lack keys."""
    if isinstance(value, dict) and value:
        _drop_incomplete(list(value.values())[-1])
    elif isinstance(value, list) and len(value) > 1:
        value.pop()


def shape_of(value: Any, depth: int) -> str:
    """A value's type: keys with types, lengths of lists, short literals."""
    match value:
        case dict():
            return _object([value], depth)
        case list():
            return _list([value], depth)
        case _:
            literal = compact(value)
            return literal if len(literal) <= LITERAL_CHARACTERS else _types([value], depth)


def longest_list(value: Any) -> tuple[str, list[Any]]:
    """The longest list of a document, on its first or second level, with its name."""
    if isinstance(value, list):
        return "", value
    if isinstance(value, dict):
        lists = [(name, item) for name, item in value.items() if isinstance(item, list)]
        return max(lists, key=lambda pair: total_of(pair[1]), default=("", []))
    return "", []


def total_of(value: list[Any] | dict[str, Any]) -> int:
    """The number of elements or members, including those that an outline omits."""
    return value.total if isinstance(value, SampledList | SampledObject) else len(value)


def compact(value: Any) -> str:
    """A value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _types(values: Iterable[Any], depth: int) -> str:
    """The types of several values, objects and lists merged."""
    groups: dict[str, list[Any]] = {}
    for value in values:
        groups.setdefault(_kind(value), []).append(value)
    names = []
    for kind, members in groups.items():
        if kind == "object":
            names.append(_object(members, depth))
        elif kind == "list":
            names.append(_list(members, depth))
        else:
            names.append(kind)
    return " | ".join(names)


def _object(objects: list[dict[str, Any]], depth: int) -> str:
    present = Counter(key for one in objects for key in one)
    total = max(len(present), *map(total_of, objects))
    if depth <= 1 or not present:
        return f"{{{total:,} keys}}" if present else "{}"
    if len(objects) == 1 and total > MOST_KEYS:
        some = ", ".join(compact(key[:LITERAL_CHARACTERS]) for key in list(present)[:FEW_KEYS])
        return f"{{{total:,} keys such as {some}: {_types(_some(list(objects[0].values())), depth - 1)}}}"
    parts = []
    for key, times in list(present.items())[:MOST_KEYS]:
        values = [one[key] for one in objects if key in one]
        optional = "?" if times < len(objects) else ""
        described = shape_of(values[0], depth - 1) if len(objects) == 1 else _types(values, depth - 1)
        parts.append(f"{key[:LITERAL_CHARACTERS]}{optional}: {described}")
    more = f", and {total - MOST_KEYS:,} keys more" if total > MOST_KEYS else ""
    return f"{{{', '.join(parts)}{more}}}"


def _list(lists: list[list[Any]], depth: int) -> str:
    sizes = [total_of(one) for one in lists]
    size = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,}-{max(sizes):,}"
    if not max(sizes):
        return "[]"
    if depth <= 0:  # a program may nest lists hundreds deep
        return f"[{size}]"
    inner = _types((value for one in lists[:FEW_KEYS] for value in _some(one)), depth - 1)
    return f"[{size} of {inner}]"


def _some(values: list[Any]) -> list[Any]:
    return values if len(values) <= SAMPLED else [*values[: SAMPLED - 20], *values[-20:]]


def _kind(value: Any) -> str:
    kinds = {bool: "bool", int: "int", float: "float", str: "str", dict: "object", list: "list"}
    return next((kind for of, kind in kinds.items() if isinstance(value, of)), "null")


def _json_lines(lines: Iterable[str]) -> list[Any] | None:
    rows = []
    for line in _filled(lines):
        row = _parsed(line) if line[0] in "{[" else None
        if row is None:
            return None
        rows.append(row)
    return rows if len(rows) >= FEWEST_LINES else None


def _filled(lines: Iterable[str]) -> Iterator[str]:
    return (stripped for line in lines if (stripped := line.strip()))


def _parsed(text: str) -> Any:
    """The parsed value, or ``None``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
