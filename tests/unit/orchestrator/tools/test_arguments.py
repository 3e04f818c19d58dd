"""The failures of arguments that do not fit a tool's input schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.models.tools import Tool, ToolFailure
from orchestrator.tools.arguments import check, parameters, result_mistake, unknown_tool

ISSUES = {
    "type": "object",
    "properties": {
        "labels": {"type": "array", "items": {"type": "string"}},
        "state": {"enum": ["open", "closed"]},
        "repository": {"type": "string", "pattern": "^[a-z]+/[a-z]+$"},
        "per_page": {"type": "integer", "minimum": 1, "maximum": 100},
    },
    "required": ["repository"],
}


def tool(schema: dict[str, Any]) -> Tool:
    return Tool(server="github", name="list_issues", input_schema=schema)


def failed(schema: dict[str, Any], text: str) -> ToolFailure:
    found = check(tool(schema), text)
    assert isinstance(found, ToolFailure), found
    assert found.code == "tool_arguments_invalid"
    return found


@pytest.mark.parametrize(
    ("given", "message", "meant"),
    [
        ({}, '"repository" missing in the arguments', ()),
        (
            {"repo": "a/b"},
            '"repo" is not a parameter of this tool; "repository" missing in the arguments',
            ("repository",),
        ),
        ({"repository": "a/b", "perPage": 3}, '"perPage" is not a parameter of this tool', ("per_page",)),
        ({"repository": 3}, '"repository" must be of type "string"', ()),
        ({"repository": "a"}, '"repository" breaks "pattern": "^[a-z]+/[a-z]+$"', ()),
        ({"repository": "a/b", "state": "all"}, '"state" must be one of ["open", "closed"]', ()),
        ({"repository": "a/b", "per_page": 101}, '"per_page" breaks "maximum": 100', ()),
        ({"repository": "a/b", "labels": ["x", 1]}, '"labels[1]" must be of type "string"', ()),
    ],
)
def test_invalid_arguments_have_their_message(given: dict[str, Any], message: str, meant: tuple[str, ...]) -> None:
    found = failed(ISSUES, json.dumps(given))
    assert found.message == f"The arguments of github.list_issues are not valid: {message}."
    assert found.valid_parameters == ("repository", "labels", "state", "per_page")
    assert found.did_you_mean == meant


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "they are no JSON"),
        ("{", "they are no JSON"),
        ("[]", "they are no JSON object"),
        ("null", "they are no JSON object"),
        ('{"a": NaN}', "they have NaN, which JSON does not have"),
        ('{"a": 1e999}', "they have a number that JSON does not have"),
        ('{"a": ' + "9" * 5000 + "}", "they are no JSON"),
        ('{"a": "\\ud800"}', "they have half of a surrogate pair, which is no text"),
        ('{"\\udfff": 1}', "they have half of a surrogate pair, which is no text"),
        ('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}", "they are no JSON"),
    ],
)
def test_texts_that_are_no_arguments(text: str, message: str) -> None:
    assert failed({"type": "object"}, text).message == f"The arguments cannot be read: {message}."


def test_arguments_that_fit_are_returned_as_they_were_checked() -> None:
    assert check(tool(ISSUES), '{"repository": "x", "repository": "a/b", "per_page": 1.0}') == {
        "repository": "a/b",
        "per_page": 1.0,
    }


@pytest.mark.parametrize(
    ("schema", "is_refused"),
    [
        ({"properties": {"a": {}}}, True),
        ({"properties": {"a": {}}, "additionalProperties": False}, True),
        ({"properties": {"a": {}}, "additionalProperties": True}, False),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}, False),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "string"}}, True),
        ({"properties": {"a": {}}, "patternProperties": {"^b": {}}}, False),
        ({"properties": {"a": {}}, "patternProperties": {"^b": {}}, "additionalProperties": False}, False),
        ({"properties": {"a": {}}, "patternProperties": {"^c": {}}, "additionalProperties": False}, True),
        ({"properties": {"a": {}}, "allOf": [{"properties": {"b": {}}}]}, False),
        ({"type": "object"}, False),
        ({}, False),
    ],
)
def test_a_parameter_that_the_schema_does_not_declare(schema: dict[str, Any], is_refused: bool) -> None:
    assert isinstance(check(tool(schema), '{"b": 1}'), ToolFailure) is is_refused


def test_a_failure_repeats_no_value_and_is_short() -> None:
    schema = {"properties": {f"p{number}" * 50: {"enum": ["x" * 999]} for number in range(500)}}
    text = json.dumps(dict.fromkeys(schema["properties"], "secret" * 999) | {"y" * 9999: "secret"})
    found = failed(schema, text)
    assert "secret" not in found.model_dump_json()
    assert len(found.message) < 2200
    assert len(found.valid_parameters) == 50


def test_an_unusable_schema_refuses_the_call_with_the_reason() -> None:
    found = failed({"properties": {"a": {"$ref": "https://example.com/a.json"}}}, '{"a": 1}')
    assert found.message == (
        "The arguments of github.list_issues cannot be checked, so the call was not made: "
        "The schema has a reference or a value that cannot be used."
    )
    assert found.valid_parameters == ("a",)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": []},
        {"properties": {"a": 1}},
        {"required": "a"},
        {"required": [1, {}], "properties": {"a": {}}},
        {"properties": {"a": {"type": "nothing"}}},
        {"properties": {"a": {"minimum": "x"}}},
        {"$ref": 1},
    ],
)
def test_a_broken_schema_refuses_the_call(schema: dict[str, Any]) -> None:
    assert "cannot be checked" in failed(schema, '{"a": 1}').message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "a", "b", "items"]), inner),
    max_leaves=12,
)
KEYWORDS = ["type", "properties", "required", "enum", "items", "anyOf", "$ref", "pattern", "$id", "$schema", "not"]


@given(st.dictionaries(st.sampled_from(KEYWORDS), JSON | st.sampled_from(["#", "object", "http://x/y", "#/a"])), JSON)
def test_any_schema_gives_a_verdict(schema: dict[str, Any], value: object) -> None:
    found = check(tool(schema), json.dumps({"a": value}))
    assert found == {"a": value} or isinstance(found, ToolFailure)
    assert result_mistake(schema, value) is None or isinstance(result_mistake(schema, value), str)


def test_parameters_have_the_required_first() -> None:
    schema = {"properties": {"a": {}, "b": {}, "c": {}}, "required": ["c", "b", "z"]}
    assert parameters(schema) == ("b", "c", "a")


def test_a_result_is_checked_against_the_output_schema() -> None:
    schema = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}
    assert result_mistake(schema, {"total": 1}) is None
    assert result_mistake(schema, {"total": "1"}) == '"total" must be of type "integer"'
    assert result_mistake({"$ref": "http://x/y"}, {"total": "1"}) is None


def test_an_unknown_tool_is_compared_with_usable_tools_alone() -> None:
    usable = [Tool(server="github", name=name, input_schema={}) for name in ("list_issues", "get_issue", "merge")]
    found = unknown_tool("github.list_issue", usable)
    assert (found.code, found.did_you_mean) == ("tool_unknown", ("github.list_issues", "github.get_issue"))
    assert unknown_tool("github.list_issue", []).did_you_mean == ()
    assert len(unknown_tool("x" * 100_000, usable).message) < 300
