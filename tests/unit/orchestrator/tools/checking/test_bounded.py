"""Hostile schemas cost a bounded number of steps, and nothing outside is fetched."""

from __future__ import annotations

import functools
import time
from contextlib import suppress
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from orchestrator.tools.checking import bounded, steps
from orchestrator.tools.checking.bounded import MAX_DEPTH, UnusableSchema, check_schema, violations

Schema = dict[str, Any]
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def doubling(levels: int, **more: Any) -> Schema:
    """A small schema whose evaluation takes ``2 ** levels`` steps."""
    defined = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": {**defined, f"d{levels}": {"type": "object"}}, "properties": {"a": {"$ref": "#/$defs/d0"}}, **more}


def keywords(schema: Schema | bool, value: object) -> list[tuple[str, tuple[str | int, ...]]]:
    return [(one.keyword, one.path) for one in violations(schema, value)]


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"pattern": "^a"}, "b", "pattern"),
        ({"pattern": "^a"}, "a", None),
        ({"pattern": "^a"}, 3, None),
        ({"patternProperties": {"^a": {"type": "string"}}}, {"ab": 1}, "type"),
        ({"patternProperties": {"^a": {"type": "string"}}}, {"b": 1}, None),
        ({"properties": {"a": {}}, "additionalProperties": False}, {"a": 1, "b": 1}, "additionalProperties"),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, {"a": 1, "b": 1}, "type"),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, {"a": 1, "b": "1"}, None),
        ({"patternProperties": {"^a": {}}, "additionalProperties": False}, {"ab": 1}, None),
        ({"patternProperties": {"(?=a)": {}}, "additionalProperties": False}, {"ab": 1}, None),
        ({"patternProperties": {"(?=a)": False}}, {"ab": 1}, None),
        ({"uniqueItems": True}, [1, 2, "1", True, [1], {"a": 1}], None),
        ({"uniqueItems": True}, [1, 1.0], "uniqueItems"),
        ({"uniqueItems": True}, [{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}], "uniqueItems"),
        ({"uniqueItems": False}, [1, 1], None),
        ({"const": {"a": [1]}}, {"a": [1.0]}, None),
        ({"const": {"a": [1]}}, {"a": [2]}, "const"),
        ({"enum": [1, "a"]}, True, "enum"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, 1, "type"),
        ({"$schema": DRAFT_7, "$ref": "#/definitions/a", "definitions": {"a": {"type": "string"}}}, 1, "type"),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True}, 1, "minimum"),
        ({"$schema": "https://example.com/own-dialect", "type": "string"}, 1, "type"),
        ({"format": "email"}, "no address", None),
        ({"unevaluatedProperties": False}, {"a": 1}, None),
        (False, 1, "None"),
        (True, 1, None),
    ],
)
def test_keyword_is_checked_as_specified(schema: Schema | bool, value: object, expected: str | None) -> None:
    assert [found[0] for found in keywords(schema, value)] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubling(40), {"a": {}}),
        (doubling(40, **{"$schema": DRAFT_7}), {"a": {}}),
        ({"properties": {"a": doubling(1)}, "$ref": "#"}, {}),
        ({"items": {"anyOf": [{"type": "integer"}] + [{"type": "string"}] * 200}, "maxItems": 1}, ["x" * 100] * 5000),
        ({"anyOf": [{"type": "integer"}] * 2000}, "x" * 1_000_000),
        ({"items": {"enum": [[[number] for number in range(10_000)], 1]}}, [1] * 5000),
        ({"allOf": [{"patternProperties": {f"x{n}": {} for n in range(100)}}] * 50}, {str(n): 1 for n in range(9000)}),
        (
            {"allOf": [{"patternProperties": {f"x{n}": {} for n in range(99)}, "additionalProperties": True}] * 200},
            {str(number): 1 for number in range(9000)},
        ),
        ({"allOf": [{"uniqueItems": True}] * 2000}, [{"x": number} for number in range(9000)]),
        ({"pattern": "(?:a?){999}a{999}$"}, "a" * 200_000 + "!"),
    ],
    ids=[
        "doubling",
        "doubling-7",
        "endless",
        "many-forms",
        "long-messages",
        "deep-enum",
        "patterns",
        "extra",
        "unique",
        "re2",
    ],
)
def test_hostile_schemas_end(schema: Schema, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MAX_STEPS", 20_000)
    with pytest.raises(UnusableSchema, match=r"too many steps|without end"):
        violations({"type": ["object", "array", "string"], **schema}, value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 50_000 + "!"),
        ({"patternProperties": {"^(a|a)*$": False}}, {"a" * 50_000 + "!": 1}),
        ({"patternProperties": {"^(a|a)*$": {}}, "additionalProperties": True}, {"a" * 50_000 + "!": 1}),
        ({"$schema": DRAFT_7, "pattern": "(x+x+)+y"}, "x" * 50_000),
    ],
)
def test_patterns_take_linear_time(schema: Schema, value: object) -> None:
    violations(schema, value)  # exponential in the library's own keywords: the test would not end


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", "(", "a{5000}", "x" * 2000, "((a{999}){999}){999}"])
def test_a_pattern_that_re2_does_not_have_is_not_checked(pattern: str) -> None:
    assert violations({"pattern": pattern}, "b") == []


def cpu_seconds(schema: Schema, value: object) -> float:
    """The CPU time of one check in this thread, once the schema is known."""
    violations(schema, {})
    began = time.thread_time()
    assert violations(schema, value) == []
    return time.thread_time() - began


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
def test_reference_to_an_anchor_costs_no_search_of_the_schema(keyword: str) -> None:
    """The library would look through all of a schema's parts for each of the references that a value meets."""
    anchors = {f"d{number}": {"$anchor": f"a{number}", "$dynamicAnchor": f"b{number}"} for number in range(1000)}
    target = "#a7" if keyword == "$ref" else "#b7"
    items = {"type": "array", "items": {keyword: target}}
    schema = {"$defs": anchors, "properties": {"many": items}}
    pointing = {"$defs": anchors, "properties": {"many": {"type": "array", "items": {"$ref": "#/$defs/d7"}}}}
    value = {"many": [1] * 200}
    assert cpu_seconds(schema, value) < 10 * cpu_seconds(pointing, value)


def test_references_of_a_schema_are_looked_up_once_each() -> None:
    anchors = {f"d{number}": {"$anchor": f"a{number}"} for number in range(1000)}
    began = time.thread_time()
    check_schema({"$defs": anchors}, [])
    once = time.thread_time() - began
    began = time.thread_time()
    check_schema({"$defs": anchors}, [f"#a{number}" for number in range(1000)])
    assert time.thread_time() - began < once


@pytest.mark.parametrize("reference", ["#a0", "#/$defs/a", "#", "#/properties/a"])
def test_reference_to_a_part_is_accepted(reference: str) -> None:
    check_schema({"$defs": {"a": {"$anchor": "a0"}}, "properties": {"a": True}}, [reference])


@pytest.mark.parametrize("reference", ["#a1", "#/$defs/b", "other.json", "https://example.com/x", "#/%zz", ""])
def test_reference_to_nothing_makes_a_schema_unusable(reference: str) -> None:
    with pytest.raises(UnusableSchema, match="does not lead to a part"):
        check_schema({"$defs": {"a": {"$anchor": "a0"}}}, [reference])


def test_checks_that_share_steps_take_no_more_than_one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MAX_STEPS", 2000)
    schema, value = {"items": {"type": "integer"}}, [1] * 400
    for _ in range(5):
        assert violations(schema, value) == []  # the control: each by itself
    refused = 0
    with steps.Steps().shared():
        for _ in range(5):
            with suppress(UnusableSchema), steps.Steps().shared():  # those around it count
                violations(schema, value)
                continue
            refused += 1
    assert 0 < refused < 5
    assert violations(schema, value) == []


def test_twenty_thousand_equal_requirements_are_refused_quickly() -> None:
    with pytest.raises(UnusableSchema, match="invalid at required/0"):
        check_schema({"required": [{}] * 20_000})


def test_a_nested_dialect_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would continue with its own validators below a subschema that has ``$schema``."""
    monkeypatch.setattr(steps, "MAX_STEPS", 500)
    schema = {"properties": {"a": {"$schema": DRAFT_7, **doubling(10)}}}
    schema["$defs"] = schema["properties"]["a"].pop("$defs")
    with pytest.raises(UnusableSchema, match="too many steps"):
        violations(schema, {"a": {"a": {}}})
    # The control: with the library's own recursion, the same schema costs next to nothing.
    monkeypatch.setattr(bounded.LATEST, "evolve", Draft202012Validator.evolve)
    bounded._prepared.cache_clear()
    assert violations(schema, {"a": {"a": {}}}) == []
    bounded._prepared.cache_clear()


@pytest.mark.parametrize(
    "reference",
    ["https://example.com/a.json", "file:///etc/passwd", "http://127.0.0.1:1/x", "other.json", "#/none", "#none"],
)
@pytest.mark.parametrize("base", [{}, {"$id": "http://127.0.0.1:1/base.json"}])
def test_reference_elsewhere_is_never_fetched(reference: str, base: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("The schema reached for something outside.")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UnusableSchema, match="cannot be used") as caught:
        violations({**base, "properties": {"a": {"$ref": reference}}}, {"a": 1})
    assert not isinstance(caught.value.__cause__, AssertionError)


def test_depth_is_bounded() -> None:
    def nested(levels: int) -> Any:
        return functools.reduce(lambda inner, _: {"a": inner}, range(levels), cast(Any, 1))

    recursive = {"properties": {"a": {"$ref": "#"}}}
    assert violations(recursive, nested(MAX_DEPTH)) == []
    with pytest.raises(UnusableSchema, match="deeper than 64"):
        violations(recursive, nested(MAX_DEPTH + 1))
    with pytest.raises(UnusableSchema, match="deeper than 64"):
        check_schema(functools.reduce(lambda inner, _: {"not": inner}, range(100_000), cast(Any, {})))


def test_size_of_a_schema_is_bounded() -> None:
    with pytest.raises(UnusableSchema, match="262144 characters"):
        check_schema({"description": "x" * 262_144})


def test_a_large_ordinary_value_is_checked_in_full() -> None:
    record = {"type": "object", "properties": {f"f{n}": {"type": "string"} for n in range(8)}, "required": ["f0"]}
    records: list[dict[str, Any]] = [{f"f{n}": "text" for n in range(8)} for _ in range(3000)]
    assert violations({"items": record}, records) == []
    records[-1]["f7"] = 7
    assert keywords({"items": record}, records) == [("type", (2999, "f7"))]


def test_every_dialect_is_bounded() -> None:
    classes: list[type[Validator]] = list(bounded.DIALECTS.values())
    assert len(classes) == 5
    assert all(one.evolve is bounded._evolve for one in classes)
