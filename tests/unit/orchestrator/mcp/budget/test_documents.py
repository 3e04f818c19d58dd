"""JSON is summarised by its shape, whole or by a prefix, and never cut inside."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.mcp.budget.cleaning import as_data
from orchestrator.mcp.budget.documents import Document, closed_prefix, compact, document, shape_of
from orchestrator.mcp.budget.material import Stream
from orchestrator.mcp.budget.tokens import count

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)

NAMES = [f"k{number}" for number in range(41)]


def found(text: str, whole_bytes: int = 2**20) -> Document:
    made = document(Stream.of(text.encode()), as_data, whole_bytes)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ({}, "{}"),
        ([], "[]"),
        ({"a": 1, "b": "x", "c": None}, '{a: 1, b: "x", c: null}'),
        ({"long": "x" * 99}, "{long: str}"),
        ([1, 2.5, "x"], "[3 of int | float | str]"),
        ([{"a": 1}, {"a": 2, "b": True}], "[2 of {a: int, b?: bool}]"),
        ([{"t": ["x"]}, {"t": []}, {"t": ["x", "y"]}], "[3 of {t: [0-2 of str]}]"),
        ({"rows": [{"id": 1}]}, "{rows: [1 of {id: 1}]}"),
        ({str(n): n for n in range(60)}, '{60 keys such as "0", "1", "2", "3", "4", "5", "6", "7": int}'),
        ([[1, 2], [3, 4]], "[2 of [2 of int]]"),
        ([[[[[[7]]]]]], "[1 of [1 of [1 of [1 of [1]]]]]"),
        (dict.fromkeys(NAMES[:40], 1), f"{{{', '.join(f'{name}: 1' for name in NAMES[:40])}}}"),
        (dict.fromkeys(NAMES, 1), '{41 keys such as "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7": int}'),
        (
            [dict.fromkeys(NAMES, 1)] * 2,
            f"[2 of {{{', '.join(f'{name}: int' for name in NAMES[:40])}, and 1 keys more}}]",
        ),
        ([{"k" * 50: 1}] * 2, f"[2 of {{{'k' * 40}: int}}]"),
        ([0] * 179 + ["x"] + [0] * 220, "[400 of int | str]"),
        ([0] * 180 + ["x"] * 200 + [0] * 20, "[400 of int]"),
        ([0] * 380 + ["x"] + [0] * 19, "[400 of int | str]"),
    ],
)
def test_document_is_summarised_by_its_shape(value: Any, shape: str) -> None:
    assert shape_of(value, 4) == shape


def test_less_depth_is_shorter() -> None:
    value = {"a": {"b": {"c": {"d": [1]}}}}
    assert [shape_of(value, depth) for depth in (3, 2, 1)] == ["{a: {b: {1 keys}}}", "{a: {1 keys}}", "{1 keys}"]


@settings(max_examples=60)
@given(VALUES, st.integers(0, 200))
def test_a_prefix_is_closed_to_a_document(value: Any, length: int) -> None:
    text = json.dumps([value, value, value])[: length + 1]
    closed, used = closed_prefix(text)
    assert text.startswith(text[:used])
    if closed:
        assert isinstance(json.loads(closed), list)


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ('[{"a": 1}, {"a": 2}, {"a', '[{"a": 1}, {"a": 2}]'),
        ('{"rows": [1, 2, 3', '{"rows": [1, 2]}'),
        ('{"text": "a, ] } \\" b", "x": 1, "y', '{"text": "a, ] } \\" b", "x": 1}'),
        ("[1, 2]]", ""),
        ("{]", ""),
        ("[" * 100, ""),
    ],
)
def test_prefix_of_a_document_is_closed(text: str, closed: str) -> None:
    assert closed_prefix(text)[0] == closed


def test_a_large_document_is_described_by_its_prefix() -> None:
    text = json.dumps({"page": 1, "rows": [{"id": n, "tags": ["x"]} for n in range(50_000)]})
    summary = found(text).within(400)
    assert "shape of the first 32," in summary
    assert "rows[0] " in summary and "id: int, tags: [1 of str]" in summary and "?:" not in summary
    assert "in all" not in summary  # the last of two keys has all the rest


def test_helper_process_reads_the_whole_document() -> None:
    text = json.dumps([{"id": n} for n in range(150_000)])
    assert "[150,000 of {id: int}]" in found(text, 16 * 2**20).within(400)
    assert "about 1" in found(text).within(400)


def test_elements_are_shown_whole_or_not_at_all() -> None:
    rows = [{"id": n, "text": "word " * (30 * (n % 3))} for n in range(900)]
    for limit in range(20, 400, 13):
        summary = found(json.dumps(rows)).within(limit)
        assert count(summary) <= limit
        shown = [line for line in summary.splitlines() if line.startswith("[") and "] {" in line]
        for line in shown:
            number, _, element = line.partition("] ")
            assert json.loads(element) == rows[int(number[1:])]


def test_summary_has_as_much_depth_as_fits() -> None:
    wide = found(json.dumps({f"key {n}": {"inner": {"deep": [n, "x"]}} for n in range(39)}))
    summaries = [(limit, wide.within(limit)) for limit in range(5, 1000, 15)]
    assert [limit for limit, summary in summaries if count(summary) > limit] == []
    assert "deep" in summaries[-1][1] and "deep" not in summaries[20][1]


def test_rows_are_the_first_ones_and_the_last() -> None:
    rows = [{"id": number} for number in range(30)]
    shown = [line for line in found(json.dumps(rows)).within(5000).splitlines() if line.startswith("[") and "]" in line]
    assert shown[1:] == [f'[{number}] {{"id":{number}}}' for number in (0, 1, 2, 3, 4, 5, 29)]


@pytest.mark.parametrize(("characters", "shown"), [(1991, True), (1992, False)])
def test_long_rows_are_not_shown(characters: int, shown: bool) -> None:
    rows = [{"id": "x" * characters}] * 5
    assert ("[0] {" in found(json.dumps(rows)).within(25_000)) is shown


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":[', "]}]")])
def test_deeply_nested_document_is_summarised_or_is_none(opening: str, closing: str) -> None:
    """At each depth about that of the parser's bound, which counts the frames of its callers."""
    for levels in (*range(10, 300, 10), *range(300, 1010), 5000):
        made = document(Stream.of((opening * levels + "1" + closing * levels).encode()), as_data)
        assert made is None or count(made.within(100)) <= 100


@pytest.mark.parametrize(
    "text", ["", "x", "[1, 2", "{'a': 1}", "5", '"text"', "[" * 200_000, '["' + '\\"' * 100_000, "[}"]
)
def test_text_that_is_no_document_has_no_summary(text: str) -> None:
    assert document(Stream.of(text.encode()), as_data) is None or text.startswith("[1")


def test_json_lines_need_an_object_on_each_line() -> None:
    lines = "\n".join(json.dumps({"n": n}) for n in range(20))
    assert found(lines).kind == found("[1]\n[2]\n[3]").kind == "JSON lines"
    assert document(Stream.of(b"[1]\n[2]"), as_data) is None
    assert document(Stream.of(f"{lines}\nnot JSON".encode()), as_data) is None


def test_compact_is_json() -> None:
    assert compact({"é": [1, "<"]}) == '{"é":[1,"<"]}'
