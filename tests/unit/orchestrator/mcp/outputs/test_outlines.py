"""Large JSON documents: counts are exact, elements come from all of it, and no document harms more than its outline."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.mcp.budget import count
from orchestrator.mcp.budget.cleaning import as_data
from orchestrator.mcp.budget.documents import document
from orchestrator.mcp.budget.material import Outline, SampledList, SampledObject, Stream
from orchestrator.mcp.outputs import outline_helper, outlines
from orchestrator.mcp.outputs.outlines import Outlines

ROWS = [{"id": n, "name": f"user {n}", "tags": ["a"], "note": "x" * 40} for n in range(30_000)]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=5), inner, max_size=30),
    max_leaves=60,
)


@pytest.fixture(scope="module")
def made() -> Iterator[Outlines]:
    one = Outlines()
    yield one
    one.stop()


def summary(outline: Outline | None, data: bytes, tokens: int = 400) -> str:
    assert outline is not None
    found = document(Stream(data, b"", len(data), outline), as_data)
    assert found is not None
    text = found.within(tokens)
    assert count(text) <= tokens
    return text


def test_counts_are_exact_and_the_last_element_is_shown(made: Outlines) -> None:
    data = json.dumps(ROWS).encode()
    text = summary(made.of(data), data)
    assert text.startswith(
        f"JSON, {len(data):,} bytes\n[30,000 of {{id: int, name: str, tags: [1 of str], note: str}}]"
    )
    assert '\n[2] {"id":2,' in text
    assert '\n[29999] {"id":29999,' in text
    # The control: without the outline only the beginning is known.
    without = document(Stream(data, b"", len(data)), as_data)
    assert without is not None
    assert "shape of the first" in without.within(400)
    assert "29,999" not in without.within(400)


def test_types_come_from_all_of_the_document(made: Outlines) -> None:
    rows: list[Any] = list(ROWS)
    rows[10_000:20_000] = [{"late": True} for _ in range(10_000)]
    data = json.dumps({"page": 1, "items": rows, "total": 30_000}).encode()
    text = summary(made.of(data), data)
    assert "{page: 1, items: [30,000 of {" in text
    assert "late?: bool" in text
    assert "total: 30000" in text


def test_json_lines_are_all_looked_at(made: Outlines) -> None:
    data = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    outline = made.of(data)
    assert outline is not None
    assert (outline.kind, outline.value.total) == ("JSON lines", 30_000)
    broken = made.of(data + b"not JSON\n")
    assert broken is None


def test_nested_lists_and_objects_keep_their_counts(made: Outlines) -> None:
    value = {"a": {"b": [ROWS, {f"key {n}": "x" * 100 for n in range(5_000)}]}}
    data = json.dumps(value).encode()
    outline = made.of(data)
    assert outline is not None
    rows, members = outline.value["a"]["b"]
    assert isinstance(rows, SampledList) and isinstance(members, SampledObject)
    assert (rows.total, members.total) == (30_000, 5_000)
    assert "[2 of [30,000 of object] | {5,000 keys}]" in summary(outline, data).replace("{4 keys}", "object")


def test_an_element_that_is_sampled_itself_is_not_shown_as_a_row(made: Outlines) -> None:
    data = json.dumps([ROWS[:9_000], ROWS[:9_000]]).encode()
    assert "[0]" not in summary(made.of(data), data)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(VALUES)
def test_samples_have_totals_positions_and_values_of_the_document(value: Any) -> None:
    """With little room everything is sampled; totals, positions and exact values are those of the document."""
    data = json.dumps([value, {"k": value}]).encode()
    kept = outline_helper.EXACT_BYTES
    outline_helper.EXACT_BYTES = 8
    try:
        answer = outline_helper.outline(data)
    finally:
        outline_helper.EXACT_BYTES = kept
    outline = outlines.built(json.loads(answer))
    assert outline is not None
    check(outline.value, json.loads(data), 0)


def check(sample: Any, value: Any, depth: int) -> None:
    match sample:
        case SampledList():
            assert sample.total == len(value)
            assert sample.positions == sorted(set(sample.positions))
            for position, element in zip(sample.positions, sample, strict=True):
                check(element, value[position], depth + 1)
        case SampledObject():
            assert sample.total == len(value)
            for key, member in sample.items():
                check(member, value[key], depth + 1)
        case outlines.LONG:
            assert isinstance(value, str | int)
        case _:
            assert sample == value or depth > outline_helper.MOST_DEPTH


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 5_000_000,
        b"[" + b'{"a":' * 1000 + b"1" + b"}" * 1000 + b"]",
        b'["' + b"x" * 2_000_000,
        b"[1, 2, nan]",
        b"[1] trailing",
        b'{"a": "\xff"}',
        b"plain",
        b"",
        b"[" + b"1," * 2_000_000 + b"1]",
    ],
    ids=["brackets", "depth", "open string", "NaN", "trailing", "UTF-8", "text", "nothing", "tiny elements"],
)
def test_malformed_document_has_no_outline_and_stops_no_helper(made: Outlines, data: bytes) -> None:
    if (outline := made.of(data)) is not None:  # strings are not decoded unless they are shown
        assert data == b'{"a": "\xff"}'
        assert outline.value == {"a": "\ufffd"}
    assert made.of(b"[1]") is not None


def test_too_many_elements_have_no_outline_and_cost_less_than_to_count_them(made: Outlines) -> None:
    many = {f"key {n:06}": n for n in range(380_000)}
    for value in (many, {"data": [many]}):
        data = json.dumps(value).encode()
        began = time.thread_time()
        assert outline_helper.outline(data) == b"null"
        took = time.thread_time() - began
        began = time.thread_time()
        msgspec.json.decode(json.dumps(many).encode(), type=dict[str, msgspec.Raw])
        assert took < (time.thread_time() - began) / 2
        assert made.of(data) is None
    data = json.dumps(many).encode()
    shown = document(Stream(data, b"", len(data)), as_data)
    assert shown is not None
    assert re.search(r"shape of the first 32,\d{3} bytes, about 4\d\d,\d{3} keys in all\n", shown.within(400))
    # The control: fewer are counted exactly.
    few = json.dumps(dict(list(many.items())[:50_000])).encode()
    assert "{50,000 keys such as" in summary(made.of(few), few)


def test_too_many_lines_have_no_outline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline_helper, "MOST_ITEMS", 1000)
    for lines, has_outline in ((1000, True), (1001, False)):
        assert (outline_helper.outline(b"[1]\n" * lines) != b"null") == has_outline


def test_helper_that_dies_or_exceeds_its_time_is_replaced(made: Outlines, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made.of(b"[1]") is not None
    assert made._process is not None
    os.kill(made._process.pid, signal.SIGKILL)
    made._process.wait()
    assert made.of(b"[1]") is not None
    first = made._process.pid
    monkeypatch.setattr(outlines, "SECONDS", 0.0)
    assert made.of(json.dumps(ROWS).encode()) is None
    monkeypatch.undo()
    assert made.of(b"[1]") is not None
    assert made._process.pid != first


@pytest.mark.parametrize(("name", "bound"), [("CPU_SECONDS", 0.01), ("ADDRESS_SPACE_BYTES", 2**26)])
def test_helper_ends_at_its_bounds(name: str, bound: float, monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.dumps([{"a": n, "b": "x" * 60} for n in range(300_000)]).encode()
    boot = "import sys; sys.path.extend(sys.argv[1:]); import outline_helper; {}; outline_helper.main()"
    monkeypatch.setattr(outlines, "SECONDS", 60.0)  # so that a busy machine is none of its bounds
    ample = "outline_helper.CPU_SECONDS = 60"  # so that a slow one is none either
    for code, has_outline in ((f"{ample}; outline_helper.{name} = {bound}", False), (ample, True)):
        monkeypatch.setattr(outlines, "BOOT", boot.format(code))
        one = Outlines()
        assert (one.of(data) is not None) == has_outline
        one.stop()


def test_document_does_not_wait_long_for_another(made: Outlines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlines, "TURN_SECONDS", 0.01)
    with made._turn:
        assert made.of(b"[1]") is None
    assert made.of(b"[1]") is not None


@pytest.mark.parametrize("answer", [1, ["JSON"], ["JSON", ["exact"]], ["JSON", ["list", 2, [1], []]], ["JSON", {}]])
def test_malformed_answer_of_a_helper_is_refused(answer: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        outlines.built(answer)
