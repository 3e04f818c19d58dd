"""Functions as tools: schemas from their signatures, and their values as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

import mayfly
from mayfly import Tool, tool
from mayfly.caller_tools.definition import jsonable, split
from orchestrator.models.submission import Submission
from orchestrator.policy.tools import tool_problems


class Row(BaseModel):
    id: int
    tags: list[str] = []


def lookup(key: str, *, limit: int = 10, day: Annotated[date, Field(description="The day.")] = date(2026, 1, 1)) -> Row:
    """Look up a row."""
    return Row(id=limit, tags=[key, day.isoformat()])


async def later(row: Row) -> list[int]:
    return [row.id]


class Database:
    def rows(self, first: int) -> dict[str, int]:
        return {"first": first}


def test_definition_has_the_signature_and_the_docstring() -> None:
    made = tool(lookup)
    assert (made.name, made.description) == ("lookup", "Look up a row.")
    assert made.input_schema["required"] == ["key"]
    assert made.input_schema["additionalProperties"] is False
    assert made.input_schema["properties"]["limit"] == {"default": 10, "title": "Limit", "type": "integer"}
    assert made.input_schema["properties"]["day"]["description"] == "The day."
    assert made.output_schema is not None
    assert made.output_schema["properties"]["id"]["type"] == "integer"


@pytest.mark.parametrize("function", [lookup, later, Database().rows, lambda x: x])
def test_definition_is_one_that_a_submission_accepts(function: Callable[..., Any]) -> None:
    submitted, own = split({"a": function})
    submission = Submission.model_validate_json(json.dumps({"environment": "python", "code": "1", "tools": submitted}))
    assert list(tool_problems(submission.tools)) == []
    assert list(own) == ["a"]


def test_arguments_are_converted_as_annotated() -> None:
    assert tool(lookup).call(key="a", limit="3", day="2026-02-03") == Row(id=3, tags=["a", "2026-02-03"])
    with pytest.raises(ValueError, match="limit"):
        tool(lookup).call(key="a", limit="many")
    with pytest.raises(ValueError, match="other"):
        tool(lookup).call(key="a", other=1)


def test_result_matches_the_output_schema() -> None:
    made = tool(lookup)
    Draft202012Validator(dict(made.output_schema or {})).validate(jsonable(made.call(key="a")))


def test_function_without_an_annotated_result_has_no_output_schema() -> None:
    assert tool(lambda x: x, name="echo").output_schema is None
    assert "outputSchema" not in tool(lambda x: x, name="echo").definition


def test_decorator_names_and_describes() -> None:
    @tool(name="find", description="Find.")
    def search(text: str) -> str:
        """Not this."""
        return text

    assert (search.name, search.description, search.call(text="a")) == ("find", "Find.", "a")


@pytest.mark.parametrize(
    "function", [lambda *args: args, lambda a, /: a, print, int, 7], ids=["many", "positional", "print", "int", "7"]
)
def test_function_whose_arguments_have_no_names_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match=r"signature|by name"):
        tool(function, name="f")


def test_annotation_that_is_not_known_is_refused() -> None:
    class Handle:
        pass

    def use(handle: Handle) -> None:
        assert handle

    with pytest.raises(TypeError, match="use"):
        tool(use)


def test_everything_that_tools_may_be_is_split() -> None:
    own = Tool("raw", dict, "Raw.", {"type": "object", "properties": {}})
    elsewhere = {"name": "elsewhere", "inputSchema": {"type": "object"}}
    submitted, mine = split([lookup, own, elsewhere, "github.*"])
    assert [part if isinstance(part, str) else part["name"] for part in submitted] == [
        "lookup", "raw", "elsewhere", "github.*",
    ]  # fmt: skip
    assert list(mine) == ["lookup", "raw"]
    assert split({"renamed": own})[1]["renamed"].name == "renamed"
    assert split({}) == ([], {})


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None), ({"a": (1, 2)}, {"a": (1, 2)}), (Row(id=1), {"id": 1, "tags": []}), (Point(1), {"x": 1}),
        ([date(2026, 1, 2)], ["2026-01-02"]), ({3}, [3]), (b"a", "a"),
    ],
)  # fmt: skip
def test_value_becomes_json(value: Any, written: Any) -> None:
    assert jsonable(value) == written


@pytest.mark.parametrize("value", [object(), float("nan"), {"a": float("inf")}, b"\xff"])
def test_value_that_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        json.dumps(jsonable(value), allow_nan=False)


def test_names_are_exported_without_loading_them() -> None:
    assert mayfly.tool is tool
    assert mayfly.Tool is Tool
