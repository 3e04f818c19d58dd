"""Shapes are read from schemas in bounded time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.tools.shapes import (
    ANY,
    MAX_FIELDS,
    MAX_NAME,
    MAX_NODES,
    Shape,
    fields_of,
    shape_of,
    unwrapped,
    used_definitions,
)
from orchestrator.tools.signatures import written

Schema = dict[str, Any]


@pytest.mark.parametrize(
    ("schema", "python"),
    [
        ({"type": "string"}, "str"),
        ({"type": ["integer", "null"]}, "int | None"),
        ({"type": ["null", "integer"]}, "int | None"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}, {"type": "string"}]}, "str | None"),
        ({"oneOf": [{"const": "a"}, {"const": "b"}]}, "Literal['a', 'b']"),
        ({"enum": ["a", 1, True, None]}, "Literal['a', 1, True] | None"),
        ({"enum": [1, True, "1"]}, "Literal[1, True, '1']"),
        ({"enum": ["x" * 100]}, "str"),
        ({"enum": [str(number) for number in range(50)]}, "str"),
        ({"enum": [1.5, 2]}, "float | int"),
        ({"enum": [[1]]}, "Any"),
        ({"enum": []}, "Any"),
        ({"type": "array"}, "list"),
        ({"type": "array", "items": {"type": "number"}}, "list[float]"),
        ({"type": "object"}, "dict"),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "dict[str, bool]"),
        ({"properties": {"a": {"type": "string"}, "b-c": {}}, "required": ["a"]}, '{a: str, "b-c"?: Any}'),
        ({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, "{a?: Any, b?: Any}"),
        ({"allOf": [{"description": "x"}, {"type": "string"}]}, "str"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "str"),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "string"}}}, "str"),
        ({"$ref": "#"}, "Any"),
        ({"$ref": "https://example.com/x"}, "Any"),
        ({"type": "array", "items": {"$ref": "#"}}, "list[list]"),
        ({"type": "strange"}, "Any"),
        ({"type": 3, "enum": "x", "anyOf": {}, "$ref": []}, "Any"),
        ({"not": {"type": "string"}}, "Any"),
    ],
)
def test_schema_has_its_shape(schema: Schema, python: str) -> None:
    assert written(shape_of(schema), 6, "python") == python


@pytest.mark.parametrize("schema", [None, True, False, 3, "x", []])
def test_invalid_schema_has_any_shape(schema: object) -> None:
    assert shape_of(schema) == ANY


def nodes(shape: Shape) -> int:
    return 1 + sum(map(nodes, shape.parts)) + sum(nodes(field.shape) for field in shape.fields)


def test_a_doubling_schema_is_read_in_part() -> None:
    defined = {f"d{n}": {"properties": {key: {"$ref": f"#/$defs/d{n + 1}"} for key in "abcd"}} for n in range(30)}
    assert nodes(shape_of({"$defs": defined, "$ref": "#/$defs/d0"})) <= 2 * MAX_NODES
    wide = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 9} for n in range(30)}
    assert shape_of({"$defs": wide, "$ref": "#/$defs/d0"}) == ANY


def test_deep_combinations_are_read_in_part() -> None:
    """Far more calls than Python nests, since neither references nor combinations count as depth."""
    defined: Schema = {f"d{n}": nested(90, {"$ref": f"#/$defs/d{n + 1}"}) for n in range(10)}
    assert shape_of({"$defs": defined, "$ref": "#/$defs/d0"}) == ANY
    assert shape_of(nested(20, {"type": "string"})) == Shape("string")


def nested(levels: int, schema: Schema) -> Schema:
    for _ in range(levels):
        schema = {"anyOf": [schema]}
    return schema


def test_overlong_names_are_left_out() -> None:
    """A reference repeats the names behind it, so that a small schema would have a large stub."""
    fields = fields_of({"properties": {"x" * MAX_NAME: {}, "y" * (MAX_NAME + 1): {}}})
    assert [field.name for field in fields] == ["x" * MAX_NAME]
    assert shape_of({"properties": {"y" * (MAX_NAME + 1): {}}}) == shape_of({"type": "object"})


def test_a_wide_schema_is_read_in_part() -> None:
    assert len(shape_of({"properties": {str(number): {} for number in range(9999)}}).fields) == MAX_FIELDS


def test_fields_have_the_required_first() -> None:
    fields = fields_of(
        {
            "properties": {"a": {"default": 3, "description": "First\nline"}, "b": {"default": [1]}, "c": {}},
            "required": ["c"],
        }
    )
    assert [(field.name, field.is_required, field.default, field.has_default) for field in fields] == [
        ("c", True, None, False),
        ("a", False, 3, True),
        ("b", False, None, False),
    ]
    assert fields[1].description == "First line"


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (None, None),
        ({"type": "string"}, {"type": "string"}),
        (
            {"type": "object", "properties": {"result": {"type": "string"}}, "required": ["result"]},
            {"type": "string"},
        ),
        (
            {"properties": {"result": {"$ref": "#/$defs/a"}}, "required": ["result"], "$defs": {"a": {}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {}}},
        ),
        ({"properties": {"result": {}}}, {"properties": {"result": {}}}),
        (
            {"properties": {"result": {}, "more": {}}, "required": ["result"]},
            {"properties": {"result": {}, "more": {}}, "required": ["result"]},
        ),
        (
            {"properties": {"result": True}, "required": ["result"]},
            {"properties": {"result": True}, "required": ["result"]},
        ),
    ],
)
def test_wrapped_results_are_unwrapped(schema: Schema | None, expected: Schema | None) -> None:
    assert unwrapped(schema) == expected


KEYS = st.sampled_from(
    ["type", "properties", "required", "enum", "const", "items", "anyOf", "allOf", "$ref", "additionalProperties", "a"]
)


def test_definitions_that_nothing_refers_to_are_left_out() -> None:
    schema = {
        "properties": {"x": {"$ref": "#/$defs/a"}, "y": {"$ref": "#/definitions/d~1e"}},
        "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"$ref": "#/$defs/a"}, "c": {}},
        "definitions": {"d/e": {"type": "string"}, "f": {"$ref": "#/definitions/d~1e"}},
    }
    kept = used_definitions(schema)
    assert (list(kept["$defs"]), list(kept["definitions"])) == (["a", "b"], ["d/e"])
    assert shape_of(kept) == shape_of(schema)
    assert used_definitions({"$defs": {"a": {}}, "type": "string"}) == {"type": "string"}
    assert used_definitions({"$defs": 3}) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_any_json_has_a_shape(schema: object) -> None:
    for language in ("python", "javascript"):
        assert written(shape_of(schema), 6, language)
