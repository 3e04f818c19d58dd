"""Shapes of results have types and field names, never values, and are small whatever the results are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.tools.checking.bounded import violations
from orchestrator.tools.seen import MAX_CHARACTERS, observed
from orchestrator.tools.shapes import shape_of
from orchestrator.tools.signatures import written


@pytest.mark.parametrize(
    ("results", "python"),
    [
        (["x"], "str"),
        (["x", None], "str | None"),
        ([1, 2.5], "float"),
        ([True, 1], "bool | int"),
        ([[]], "list"),
        ([[], [1]], "list[int]"),
        ([{"a": 1, "b": "x"}], "{a: int, b: str}"),
        ([{"a": 1, "b": "x"}, {"a": 2}], "{a: int, b?: str}"),
        ([{"a": 1}, {"b": [{"c": None}]}], "{a?: int, b?: list[{c: None}]}"),
        ([[{"a": 1}, {"a": "x"}]], "list[{a: int | str}]"),
        ([{"jane@example.com": 1, "joe@example.com": 2}], "dict[str, int]"),
        ([{f"user{number}": {"id": number} for number in range(60)}], "dict[str, {id: int}]"),
        ([{f"a{number}": 1 for number in range(30)}, {f"b{number}": 1 for number in range(30)}], "dict[str, int]"),
        ([{"a": 1}, {"x y": 2.5}], "dict[str, float]"),
        ([1, "x", [], None, {}], "Any"),
        ([{}], "dict"),
        ([{"a": 1}, "text"], "{a: int} | str"),
    ],
)
def test_results_have_their_common_shape(results: list[Any], python: str) -> None:
    known = None
    for result in results:
        known = observed(known, result)
    assert known is not None
    assert written(shape_of(known), 6, "python") == python


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text("ab @", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab @", max_size=3), inner, max_size=4),
    max_leaves=15,
)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_every_observed_result_fits_the_shape(results: list[Any]) -> None:
    known = None
    for result in results:
        known = observed(known, result)
    assert known is not None
    assert [violations(known, result) for result in results] == [[] for _ in results]


def test_no_value_is_kept() -> None:
    shape = observed(None, {"name": "secret-1", "rows": [{"id": 41877}], "by_mail": {"secret-2@example.com": 1.25}})
    text = json.dumps(shape)
    assert not any(value in text for value in ("secret", "41877", "1.25", "example"))


def test_large_results_have_small_shapes() -> None:
    wide = {f"k{a}": {f"k{b}": {f"k{c}": 1 for c in range(40)} for b in range(40)} for a in range(40)}
    assert observed(None, wide) == {}
    assert observed({}, {"a": 1}) == {}
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert len(json.dumps(observed(None, deep))) < 300
    assert len(json.dumps(observed(None, list(range(1_000_000))))) < MAX_CHARACTERS
