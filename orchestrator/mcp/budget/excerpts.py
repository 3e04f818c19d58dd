"""Excerpts of a stream within a number of tokens: whole lines of head and tail, and the call that reads the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from orchestrator.characters import MAX_CHARACTER_BYTES, whole_characters
from orchestrator.mcp.budget import tokens
from orchestrator.mcp.budget.cleaning import Filter, Line, is_binary, joined, lines_of, media_type
from orchestrator.mcp.budget.folding import SIMILAR, fold_equal, fold_similar
from orchestrator.mcp.budget.material import Stream

WINDOW_BYTES = 32 * 1024  # examined at each end, for a budget of 500 tokens
WINDOW_LINES = 2000  # of each end
BYTES_PER_TOKEN = 64  # of each end, for larger budgets
COUNTED_BYTES = 2**20  # per step of counting newlines
TAIL_SHARE = 0.5
NOTE_TOKENS = 30
CONTINUATION = {bytes([byte]) for byte in range(0x80, 0xC0)}
READABLE = ("stdout", "stderr")  # by read_output
FEWEST_TOKENS = 8  # of an end; fewer are of no use
SAMPLE_CHARACTERS = 4096
DEFAULT_BYTES_PER_TOKEN = 4.0
BYTES_PER_BINARY_TOKEN = 1.5  # as base64


@dataclass(frozen=True)
class Excerpt:
    """Text to show, and the number of omitted tokens. ``next_offset``: the offset of the first omitted byte."""

    text: str
    withheld: int = 0
    next_offset: int | None = None


@dataclass(frozen=True)
class Window:
    """The lines of both ends of a stream. Without a gap ``tail`` is empty, and ``head`` has all lines."""

    name: str
    head: Sequence[Line]
    tail: Sequence[Line]
    stream: Stream
    bytes_per_token: float

    @property
    def has_gap(self) -> bool:
        return (self.head[-1].end if self.head else 0) < self.stream.total_bytes

    @cached_property
    def newlines(self) -> int | None:
        """The number of newlines; ``None`` for an incomplete stream. Counted in steps, so other threads can run."""
        data = self.stream.head
        if not self.stream.is_complete or self.stream.tail:
            return None
        return sum(data.count(b"\n", begin, begin + COUNTED_BYTES) for begin in range(0, len(data), COUNTED_BYTES))

    @cached_property
    def folded_head(self) -> list[Line]:
        """The head without repetitions."""
        return fold_equal(self.head)

    @cached_property
    def similar_head(self) -> list[Line]:
        """The head without repetitions, and without lines that differ only in numbers."""
        return fold_similar(self.folded_head)

    @cached_property
    def similar_tail(self) -> list[Line]:
        """The tail, likewise."""
        return fold_similar(fold_equal(self.tail))

    @property
    def text(self) -> str:
        """The lines of the head, joined."""
        return joined(self.head)


def window(name: str, stream: Stream, budget_tokens: int, clean: Filter, most_lines: int = WINDOW_LINES) -> Window:
    """The examined ends of a stream: bounded by the budget, for any size of the stream."""
    size = max(WINDOW_BYTES, budget_tokens * BYTES_PER_TOKEN)
    total = stream.total_bytes
    whole = stream.head + stream.tail if stream.is_complete and total <= 2 * size else stream.head
    first = whole if len(whole) == total <= 2 * size else whole[:size]
    if len(first) < total:
        first = first[: whole_characters(first)]
    head = lines_of(first, 0, 2 * most_lines if len(first) == total else most_lines, clean)
    head_end = head[-1].end if head else 0
    if head_end == len(first) < total and not first.endswith(b"\n") and len(head) > 1 and not head[-2].is_part:
        head_end = head.pop().begin  # the end of that line is missing
    if head_end == total:
        return Window(name, head, (), stream, _bytes_per_token(head))
    source = whole if len(whole) == total else stream.tail
    begin = max(head_end, total - len(source), total - size)
    begin += _continuation(source, len(source) - (total - begin))
    tail = lines_of(source[len(source) - (total - begin) :], begin, most_lines, clean, from_end=True)
    if begin > head_end and len(tail) > 1 and tail[0].begin == begin and not tail[0].is_part:
        tail = tail[1:]  # the beginning of that line is missing
    return Window(name, head, tail, stream, _bytes_per_token([*head[:100], *tail[-100:]]))


def _continuation(data: bytes, at: int) -> int:
    """The number of bytes at ``at`` that belong to a character which began before ``at``."""
    return next((n for n in range(MAX_CHARACTER_BYTES) if data[at + n : at + n + 1] not in CONTINUATION), 0)


def binary(stream: Stream) -> Excerpt | None:
    """The description of binary output; ``None`` for text. All binary output counts as withheld."""
    if not is_binary(stream.head):
        return None
    kind = media_type(stream.head)
    text = f"[binary, {kind}, {stream.total_bytes:,} bytes: write it to a file in /output to get it as an artifact]"
    return Excerpt(text, math.ceil(stream.total_bytes / BYTES_PER_BINARY_TOKEN))


def excerpt(view: Window, limit: int, tail_share: float = TAIL_SHARE) -> Excerpt:
    """Head and tail within ``limit`` tokens: whole lines, or the ends of a longer line."""
    lines = view.folded_head
    if not view.has_gap:
        if not tokens.exceeds(text := joined(lines), limit):
            return Excerpt(text)
        similar = view.similar_head
        if len(similar) < len(lines) and not tokens.exceeds(text := joined(similar), limit):
            return Excerpt(text, _tokens_left_out(view, _folded_bytes(similar)))
        head = tail = similar
    else:
        head, tail = view.similar_head, view.similar_tail
    room = limit - NOTE_TOKENS
    if room < FEWEST_TOKENS:
        return _tiny(view, tail, limit, tail_share)
    last = _take(list(reversed(tail)), room * tail_share)
    last.reverse()
    rest = head[: len(head) - len(last)] if head is tail else head
    first = _take(rest, room - tokens.count(joined(last)) if last else room)
    begin = first[-1].end if first else 0
    end = last[0].begin if last else view.stream.total_bytes
    shown = [joined(first)] if first else []
    if end > begin:
        shown.append(_note(view, begin, end))
    if last:
        shown.append(joined(last))
    left_out = max(0, end - begin) + _folded_bytes([*first, *last])
    next_offset = begin if end > begin and view.name in READABLE else None
    return Excerpt("\n".join(shown), _tokens_left_out(view, left_out), next_offset)


def _tiny(view: Window, lines: Sequence[Line], limit: int, tail_share: float) -> Excerpt:
    """The beginning or end of a line, if ``limit`` is too small for a note."""
    total = view.stream.total_bytes
    if limit < 1 or not lines:
        return Excerpt("", _tokens_left_out(view, total), 0)
    text = (
        f"…{tokens.suffix(joined(lines[-20:]), limit - 1)}"
        if tail_share == 1
        else (f"{tokens.prefix(joined(view.head[:20]), limit - 1)}…")
    )
    return Excerpt(text, max(0, _tokens_left_out(view, total) - limit), 0)


def _take(lines: Sequence[Line], room: float) -> list[Line]:
    """The longest beginning of ``lines`` that fits."""
    taken: list[Line] = []
    for line in lines:
        if (room := room - tokens.count(line.text) - (not line.is_part)) < 0:
            break
        taken.append(line)
    return taken


def _note(view: Window, begin: int, end: int) -> str:
    """The line in place of withheld output: its size, and the call that reads it."""
    data, newlines = view.stream.head, view.newlines
    counted = 0 if newlines is None else newlines - data.count(b"\n", 0, begin) - data.count(b"\n", end)
    lines = f"{counted:,} lines, " if counted else ""
    how = f"read_output stream={view.name} offset={begin}" if view.name in READABLE else "return the part you need"
    return f"[… {lines}{end - begin:,} bytes withheld: {how} …]"


def _folded_bytes(shown: Sequence[Line]) -> int:
    return sum(line.end - line.begin for line in shown if line.text.endswith(SIMILAR))


def _tokens_left_out(view: Window, size: int) -> int:
    return math.ceil(size / view.bytes_per_token)


def _bytes_per_token(lines: Sequence[Line]) -> float:
    text, size = "", 0
    for line in lines:
        if len(text) > SAMPLE_CHARACTERS:
            break
        text += line.text[:SAMPLE_CHARACTERS] + "\n"
        size += min(line.end - line.begin, SAMPLE_CHARACTERS)
    counted = tokens.count(text) if text else 0
    return max(1.0, size / counted) if counted else DEFAULT_BYTES_PER_TOKEN
