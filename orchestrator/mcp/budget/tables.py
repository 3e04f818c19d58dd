"""Summarises tables by their shape: columns with types and ranges, the number of rows, the first and last rows.

Tables are CSV, TSV and other delimited lines, Markdown tables, columns separated by spaces (as pandas prints them), and
tables of HTML. Each shown row is complete.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import unescape

from orchestrator.mcp.budget import tokens
from orchestrator.mcp.budget.cleaning import Filter
from orchestrator.mcp.budget.excerpts import Window

DELIMITERS = ((",", "CSV"), ("\t", "TSV"), (";", "CSV"), ("|", "table"))
FEWEST_ROWS = 5
FEWEST_COLUMNS = 2
MOST_COLUMNS = 40
FITTING_SHARE = 0.9  # of the lines that have the header's number of columns
CHECKED_LINES = 200
SHOWN_ROWS = 6
FEW_VALUES = 5
LONGEST_NUMBER = 40
SHAPE = re.compile(r"(?:\[|<p>)?([0-9]{1,12}) rows [x\u00d7] [0-9]{1,9} columns")
SPACES = re.compile(r" {2,}|\t")
NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$")
EMPTY = ("", "nan", "none", "null", "na", "<na>")
HTML_BYTES = 256 * 1024
HTML_CELLS = 4000
CELL = ("td", "th")
# A tag, text, or a character that begins no tag.
MARKUP = re.compile(r"<(?P<end>/?)(?P<name>[a-zA-Z][a-zA-Z0-9]{0,20})\b[^<>]{0,1000}>|[^<]+|<")


@dataclass(frozen=True)
class Table:
    """A table of ``kind``. ``rows`` are lines as printed, ``cells`` the content of the sampled rows, of which the last
    are a part.
    """

    kind: str
    columns: Sequence[str]
    header: str
    rows: Sequence[str]
    last: Sequence[str]
    cells: Sequence[Sequence[str]]
    total_rows: int | None
    total_bytes: int

    def within(self, limit: int) -> str:
        """The columns with types and ranges and as many rows as fit."""
        for described in (self._columns(True), self._columns(False), ""):
            summary = "\n".join(part for part in (self._heading(), described) if part)
            if not tokens.exceeds(summary, limit):
                return summary + self._rows(limit - tokens.count(summary))
        return ""

    def _heading(self) -> str:
        rows = f"{self.total_rows:,} rows" if self.total_rows is not None else f"{self.total_bytes:,} bytes"
        return f"{self.kind}: {rows} x {len(self.columns)} columns"

    def _columns(self, detailed: bool) -> str:
        named = []
        for number, name in enumerate(self.columns[:MOST_COLUMNS]):
            values = [row[number] for row in self.cells if number < len(row)]
            named.append(f"{name.strip() or '(index)'} {column_type(values, detailed)}")
        more = f", and {len(self.columns) - MOST_COLUMNS} more" if len(self.columns) > MOST_COLUMNS else ""
        of = f" (in the first {len(self.cells)} rows)" if detailed and self.total_rows != len(self.cells) else ""
        return f"columns{of}: {', '.join(named)}{more}"

    def _rows(self, limit: int) -> str:
        last = list(self.last[-2:])
        ordered = [self.header, *self.rows[:3], *reversed(last), *self.rows[3:SHOWN_ROWS]]
        shown: set[int] = set()
        for number, line in enumerate(ordered):
            if (limit := limit - tokens.count(line) - 2) < 3:
                break
            shown.add(number)
        head = [0, 1, 2, 3, *range(4 + len(last), len(ordered))]
        first = [ordered[number] for number in head if number in shown]
        ends = [ordered[number] for number in reversed(range(4, 4 + len(last))) if number in shown]
        return "".join(f"\n{line}" for line in (*first, *(["…"] if ends else []), *ends))


def table(view: Window) -> Table | None:
    """A stream's table; ``None`` for other streams."""
    if any(line.is_part for line in view.head):
        return None
    lines = [line.text for line in view.head if line.text.strip()]
    if len(lines) < FEWEST_ROWS + 1:
        return None
    for kind, split in _readers(lines):
        checked = [split(line) for line in lines[:CHECKED_LINES]]
        columns, start = checked[0], 2 if kind == "Markdown table" else 1
        width = max((len(cells) for cells in checked[start:]), key=[len(c) for c in checked[start:]].count)
        if len(columns) == width - 1 and kind == "table":
            columns = ["", *columns]  # as pandas prints the index
        cells = [row for row in checked[start:] if len(row) == width]
        if width < FEWEST_COLUMNS or len(columns) != width or len(cells) < FITTING_SHARE * len(checked[start:]):
            continue
        rows = lines[start:]
        ends = [line.text for line in view.tail if line.text.strip()] or rows
        last = ends[-2:] if view.tail or len(rows) > FEWEST_ROWS else []
        first = rows if view.tail else rows[: len(rows) - len(last)]
        total = _row_count(view, ends, start)
        return Table(kind, columns, lines[0], first[:SHOWN_ROWS], last, cells, total, view.stream.total_bytes)
    return None


def html_table(html: str, clean: Filter) -> Table | None:
    """The first table of an HTML text, such as a data frame's; ``None`` without a table."""
    if "<table" not in html[:4096]:
        return None
    rows = [[clean(cell.strip()) for cell in row] for row in html_rows(html[:HTML_BYTES])]
    if len(rows) <= FEWEST_ROWS:
        return None
    declared = SHAPE.search(html[-1000:])
    total = int(declared[1]) if declared else len(rows) - 1
    written = [" | ".join(row) for row in rows]
    return Table(
        "HTML table", rows[0], written[0], written[1:-2][:SHOWN_ROWS], written[-2:], rows[1:CHECKED_LINES], total, 0
    )


def column_type(values: Sequence[str], detailed: bool = True) -> str:
    """The type of a column by a sample of its values, with their range or examples, and the number of empty values."""
    filled = [value.strip() for value in values if value.strip().lower() not in EMPTY]
    gaps = f", {len(values) - len(filled)} empty" if detailed and len(filled) < len(values) else ""
    if not filled:
        return "empty"
    if all(len(value) < LONGEST_NUMBER and NUMBER.match(value) for value in filled):
        numbers = [float(value) for value in filled]
        kind = "int" if all(value.lstrip("+-").isdigit() for value in filled) else "float"
        return f"{kind} ({min(numbers):g} to {max(numbers):g}{gaps})" if detailed else kind
    distinct = list(dict.fromkeys(filled))
    if detailed and len(distinct) <= FEW_VALUES and len(filled) > len(distinct):
        return f"text ({', '.join(value[:20] for value in distinct)}{gaps})"
    return f"text{f' ({gaps[2:]})' if gaps else ''}"


def _row_count(view: Window, ends: Sequence[str], start: int) -> int | None:
    declared = next((found for line in ends[-3:] if (found := SHAPE.match(line.strip()))), None)
    if declared:
        return int(declared[1])
    newlines = view.newlines
    return None if newlines is None else newlines + (not view.stream.head.endswith(b"\n")) - start


def _readers(lines: Sequence[str]) -> Iterator[tuple[str, Callable[[str], list[str]]]]:
    """The possible kinds of table, by the first lines, each with the function that splits a line."""
    rule = lines[1]
    if set(rule) <= set("|:- \t+") and "--" in rule and "|" in lines[0]:
        yield "Markdown table", lambda line: [cell.strip() for cell in line.strip().strip("|").split("|")]
    for delimiter, kind in DELIMITERS:
        if delimiter in lines[0] and delimiter in lines[1]:
            yield kind, partial(_delimited, delimiter)
    yield "table", lambda line: SPACES.split(line.strip())


def _delimited(delimiter: str, line: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def html_rows(html: str) -> list[list[str]]:
    """The texts of a table's cells, of which there are at most :data:`HTML_CELLS`. Linear: no tag is looked for twice.

    The standard library's parser is quadratic in some releases, for text such as ``<!--`` again and again.
    """
    rows: list[list[list[str]]] = []
    cells, is_open = 0, False
    for found in MARKUP.finditer(html):
        name = (found["name"] or "").lower()
        if name in CELL and not found["end"] and rows and cells < HTML_CELLS:
            rows[-1].append([])
            cells, is_open = cells + 1, True
        elif name in ("tr", "table", *CELL):
            is_open = False
            if name == "tr" and not found["end"] and cells < HTML_CELLS:
                rows.append([])
        elif is_open and not name:
            rows[-1][-1].append(found[0])
    return [[unescape("".join(cell)) for cell in row] for row in rows]
