"""The sections of an execution's view for a model: results, stderr and stdout, each within a number of tokens.

A result or output that is one JSON document, JSON lines or a table and does not fit is summarised by its shape; other
text is shown by head and tail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from orchestrator.mcp.budget import documents, tables, tokens
from orchestrator.mcp.budget.cleaning import Filter, joined
from orchestrator.mcp.budget.excerpts import READABLE, Excerpt, Window, binary, excerpt, window
from orchestrator.mcp.budget.folding import fold_library_frames
from orchestrator.mcp.budget.material import Material, Stream
from orchestrator.models.results import ResultBundle

RESULT_WEIGHT = 5.0
STDOUT_WEIGHT = 3.0
STDERR_WEIGHTS = {True: 4.0, False: 1.5}  # of an execution that failed, and of others
MOST_RESULTS = 4
SOURCES = ("named", "expression", "display")


@dataclass(frozen=True)
class Section:
    """A section: ``show`` gives it within a number of tokens, ``need`` is about the number of tokens of the whole."""

    name: str
    weight: float
    need: int
    show: Callable[[int], Excerpt]


def sections_of(material: Material, budget: int, clean: Filter) -> list[Section]:
    """The sections with content, in order. ``clean`` makes a program's text fit to be shown."""
    results = sorted(material.results, key=lambda bundle: SOURCES.index(bundle.source))
    found = [_of_result(bundle, budget, clean) for bundle in results[:MOST_RESULTS]]
    has_failed = material.state != "succeeded"
    if material.stderr.total_bytes:
        found.append(_of_stream("stderr", material.stderr, STDERR_WEIGHTS[has_failed], budget, clean, tail_share=1.0))
    if material.stdout.total_bytes:
        found.append(_of_stream("stdout", material.stdout, STDOUT_WEIGHT, budget, clean, tail_share=0.5))
    return found


def _of_stream(name: str, stream: Stream, weight: float, budget: int, clean: Filter, tail_share: float) -> Section:
    if described := binary(stream):
        return _fixed(name, weight, described)
    view = window(name, stream, budget, clean)
    if name == "stderr":
        view = replace(view, head=fold_library_frames(view.head), tail=fold_library_frames(view.tail))
    shape = documents.document(stream, clean) or tables.table(view)
    return Section(name, weight, _need(view, budget), partial(_shown, view, shape, tail_share))


def _of_result(bundle: ResultBundle, budget: int, clean: Filter) -> Section:
    """A result as JSON, else as text. Of an image there is a line: the image itself goes beside the text."""
    data, name = bundle.data, "result" if bundle.source != "display" else "display"
    plain = str(data.get("text/plain", ""))
    text = documents.compact(data["application/json"]) if "application/json" in data else plain
    notes = [f"[{kind}: shown as an image]" for kind in data if kind.startswith("image/")]
    notes += [f"[{one.media_type}, {one.size_bytes:,} bytes, left out: {one.reason}]" for one in bundle.omitted]
    stream = Stream.of("\n".join([text, *map(clean, notes)]).encode(errors="replace"))
    view = window(name, stream, budget, clean)
    shape: documents.Shape | None = None
    if isinstance(value := data.get("application/json"), dict | list):
        shape = documents.Document(value, "JSON", len(text), len(text), clean)
    elif isinstance(html := data.get("text/html"), str):
        shape = tables.html_table(html, clean)
    shape = shape or documents.document(stream, clean) or tables.table(view)
    return Section(name, RESULT_WEIGHT, _need(view, budget), partial(_shown, view, shape, 0.5))


def _fixed(name: str, weight: float, described: Excerpt) -> Section:
    def show(limit: int) -> Excerpt:
        return replace(described, text="" if tokens.exceeds(described.text, limit) else described.text)

    return Section(name, weight, tokens.count(described.text), show)


def _need(view: Window, budget: int) -> int:
    """The tokens of everything, counted as far as the budget and estimated beyond."""
    estimate = math.ceil(view.stream.total_bytes / view.bytes_per_token)
    if view.has_gap:
        return max(budget, estimate)
    text = joined(view.folded_head)
    return max(budget, estimate) if tokens.exceeds(text, budget) else tokens.count(text)


def _shown(view: Window, shape: documents.Shape | None, tail_share: float, limit: int) -> Excerpt:
    found = excerpt(view, limit, tail_share)
    text = shape.within(limit) if shape is not None and found.withheld else ""
    if not text:
        return found
    left_out = math.ceil(view.stream.total_bytes / view.bytes_per_token) - tokens.count(text)
    return Excerpt(text, max(0, left_out), 0 if view.name in READABLE else None)
