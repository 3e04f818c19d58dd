"""Folds lines that repeat or differ only in numbers, and frames of libraries in tracebacks. Linear in its input."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import groupby

from orchestrator.mcp.budget.cleaning import Line

FEWEST_EQUAL = 3
FEWEST_SIMILAR = 6
SIMILAR = "lines like these, only numbers differ]"
LONGEST_PERIOD = 4  # lines that repeat together
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
LETTER = re.compile(r"[^\W\d_]")
BARS = re.compile(r"[#=\-.█▏▎▍▌▋▊▉ ]{3,}")  # of progress bars
# Frames of a traceback: Python's, with the package in a library's path, and Node's.
PYTHON_FRAME = re.compile(r'\s{2,8}File "([^"]{1,500})", line (\d+)(?:, in (.{1,200}))?')
FRAME_LINES = 4  # of a frame after its first line: code and marks
LIBRARY = re.compile(
    r"/usr/(?:local/)?lib/(?:python3(?:\.\d+)?/)?(?:(?:dist|site)-packages/)?([^/]+)|<frozen ([\w.]+)>"
    r"|\w[\w/]*\.p(?:yx|xi)$"
)
PACKAGES = re.compile(r"/lib/(?:python3(?:\.\d+)?/)?(?:(?:dist|site)-packages/)?")
NODE_FRAME = "    at "
MOST_FRAME_CHARACTERS = 500


def fold_equal(lines: Sequence[Line]) -> list[Line]:
    """Show each run of equal lines, or of equal groups of up to four lines, once, with its count."""
    folded = _runs(lines)
    if len({line.text for line in folded}) == len(folded):
        return folded
    for period in range(2, LONGEST_PERIOD + 1):
        folded = _periods(folded, period)
    return folded


def fold_similar(lines: Sequence[Line]) -> list[Line]:
    """Show the first and the last line of each run of lines that differ only in numbers, and count the others."""
    folded = []
    for form, run in _grouped(lines, _form):
        if len(run) < FEWEST_SIMILAR or not form:
            folded += run
            continue
        note = f"[{len(run) - 2:,} {SIMILAR}"
        folded += [run[0], Line(note, run[1].begin, run[-2].end), run[-1]]
    return folded


def _form(line: Line) -> str:
    if line.is_part or not LETTER.search(line.text):
        return ""
    return BARS.sub("-", NUMBER.sub("0", line.text))


def _runs(lines: Sequence[Line]) -> list[Line]:
    folded = []
    for text, run in _grouped(lines, lambda line: line.text):
        if any(line.is_part for line in run):
            folded += run
        elif not text:
            folded.append(Line("", run[0].begin, run[-1].end))
        elif len(run) < FEWEST_EQUAL:
            folded += run
        else:
            folded.append(Line(f"{text} [{len(run):,} times]", run[0].begin, run[-1].end))
    return folded


def _periods(lines: list[Line], period: int) -> list[Line]:
    folded: list[Line] = []
    at = 0
    while at < len(lines):
        times = 1
        while _is_repeated(lines, at, at + times * period, period):
            times += 1
        if times < FEWEST_EQUAL:
            folded.append(lines[at])
            at += 1
            continue
        end = at + times * period
        note = f"[these {period} lines {times:,} times]"
        folded += [*lines[at : at + period], Line(note, lines[at + period].begin, lines[end - 1].end)]
        at = end
    return folded


def _is_repeated(lines: list[Line], first: int, second: int, period: int) -> bool:
    if second + period > len(lines) or lines[first].text != lines[second].text:
        return False
    pairs = zip(lines[first : first + period], lines[second : second + period], strict=True)
    return all(one.text == other.text and not (one.is_part or other.is_part) for one, other in pairs)


def _grouped(lines: Sequence[Line], key: Callable[[Line], Hashable]) -> list[tuple[Hashable, list[Line]]]:
    return [(form, list(run)) for form, run in groupby(lines, key)]


def fold_library_frames(lines: Sequence[Line]) -> list[Line]:
    """Keep a traceback's exception and the program's own frames; show only the last place of a library's frames."""
    folded: list[Line] = []
    run: list[tuple[str, list[Line]]] = []
    for place, frame in _frames(lines):
        if place is not None:
            run.append((place, frame))
            continue
        folded += _folded_run(run) + frame
        run = []
    return folded + _folded_run(run)


def _folded_run(run: list[tuple[str, list[Line]]]) -> list[Line]:
    if not run:
        return []
    plural = "s" if len(run) > 1 else ""
    note = f"  [{len(run)} frame{plural} of libraries, the last: {run[-1][0]}]"
    return [Line(note, run[0][1][0].begin, run[-1][1][-1].end)]


def _frames(lines: Sequence[Line]) -> Iterator[tuple[str | None, list[Line]]]:
    """The lines, grouped by frame of a library, each group with its place; ``None`` for other lines."""
    at = 0
    while at < len(lines):
        place = library_place(lines[at].text)
        end = at + 1
        if place is not None and PYTHON_FRAME.match(lines[at].text):
            indent = len(lines[at].text) - len(lines[at].text.lstrip())
            while end < len(lines) and end - at <= FRAME_LINES and _is_deeper(lines[end].text, indent):
                end += 1
        yield place, list(lines[at:end])
        at = end


def library_place(text: str) -> str | None:
    """The place of a library's frame, such as ``pandas/core/frame.py:12 in f``; ``None`` for other lines."""
    if found := PYTHON_FRAME.match(text):
        path, line, function = found.groups()
        if not LIBRARY.match(path):
            return None
        short = PACKAGES.split(path)[-1]
        return f"{short}:{line}" + (f" in {function}" if function else "")
    if text.startswith(NODE_FRAME) and len(text) <= MOST_FRAME_CHARACTERS:
        place = text.split()[-1].strip("()")
        if place.startswith("node:") or "/node_modules/" in place:
            return place.rpartition("/node_modules/")[2].rpartition(":")[0]
    return None


def _is_deeper(text: str, indent: int) -> bool:
    return len(text) - len(text.lstrip()) > indent
