"""Signatures in one line, for both languages."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.models.tools import Tool
from orchestrator.tools.names import spelt_tools
from orchestrator.tools.signatures import signature
from tests.bench.tokens.catalogues import catalogues

Schema = dict[str, Any]
TEXT = {"type": "string"}
ISSUE = {"type": "object", "properties": {"number": {"type": "integer"}, "labels": {"type": "array", "items": TEXT}}}
INPUT = {
    "properties": {
        "state": {"enum": ["open", "closed"], "default": "open"},
        "repo": TEXT,
        "limit": {"type": "integer"},
        "where": {"type": "object", "properties": {"since": TEXT}},
    },
    "required": ["repo"],
}


def tool(input_schema: Schema, output_schema: Schema | None = None) -> Tool:
    return Tool(server="github", name="list", input_schema=input_schema, output_schema=output_schema)


@pytest.mark.parametrize(
    ("input_schema", "output_schema", "python", "javascript"),
    [
        ({}, None, "g.list() -> Any", "g.list(): Promise<any>"),
        (
            INPUT,
            {"type": "array", "items": {**ISSUE, "required": ["number"]}},
            "g.list(repo: str, state: Literal['open', 'closed'] = 'open', limit: int = ..., where: {since?: str} = ...)"
            " -> list[{number: int, labels?: list[str]}]",
            'g.list({repo: string, state?: "open" | "closed", limit?: number, where?: {since?: string}}): '
            "Promise<{number: number, labels?: string[]}[]>",
        ),
        (
            {"properties": {"from": TEXT, "a-b": TEXT}, "required": ["from"]},
            {"properties": {"result": {"type": ["string", "null"]}}, "required": ["result"]},
            'g.list("from": str, "a-b": str = ...) -> str | None',
            'g.list({"from": string, "a-b"?: string}): Promise<string | null>',
        ),
        (
            {"properties": {"a": {"type": "array", "items": {"enum": ["x", "y"]}}}},
            None,
            "g.list(a: list[Literal['x', 'y']] = ...) -> Any",
            'g.list({a?: ("x" | "y")[]}): Promise<any>',
        ),
    ],
)
def test_tool_has_its_signature(
    input_schema: Schema, output_schema: Schema | None, python: str, javascript: str
) -> None:
    assert signature(tool(input_schema, output_schema), "g.list") == python
    assert signature(tool(input_schema, output_schema), "g.list", language="javascript") == javascript


@pytest.mark.parametrize(
    "output_schema", [None, {}, {"type": "object"}, {"type": "object", "additionalProperties": {}}]
)
def test_a_shape_seen_before_is_marked(output_schema: Schema | None) -> None:
    found = tool({}, output_schema)
    assert signature(found, "g.list", ISSUE) == "g.list() -> {number?: int, labels?: list[str]}  # seen before"
    assert signature(found, "g.list", ISSUE, "javascript") == (
        "g.list(): Promise<{number?: number, labels?: string[]}>  // seen before"
    )


def test_a_promised_shape_is_not_replaced() -> None:
    assert signature(tool({}, TEXT), "g.list", ISSUE) == "g.list() -> str"


def test_a_wide_signature_loses_depth_first() -> None:
    def nested(levels: int) -> Schema:
        inner = nested(levels - 1) if levels else TEXT
        return {"type": "object", "properties": {f"key_of_{levels}_{n}": inner for n in range(4)}}

    assert signature(tool({"properties": {"a": nested(1)}}), "g.list").count("key_of_") == 20
    line = signature(tool({"properties": {"a": nested(4)}}), "g.list")
    assert len(line) <= 500
    assert "key_of_4_3" in line


def test_many_parameters_are_cut() -> None:
    line = signature(tool({"properties": {f"p{number}": TEXT for number in range(90)}}), "g.list")
    assert "p39: str = ..., …) ->" in line


def test_signature_of_any_schema_has_no_newline() -> None:
    hostile = "x\n# \u202e\x1b[2J"
    schema = {
        "properties": {hostile: {"enum": [hostile, "\u2028"]}, "b": {"default": hostile}, "c": {"const": hostile}},
        "required": [hostile],
    }
    for language in ("python", "javascript"):
        line = signature(tool(schema, schema), "g.list", language=language)
        assert line.isprintable(), line


def test_public_catalogues_fit_a_line_each() -> None:
    spelt = spelt_tools(catalogues())
    lines = [signature(one, spelt[one.full_name]) for catalogue in catalogues() for one in catalogue.tools]
    assert max(map(len, lines)) < 900
    assert all(line.isprintable() for line in lines)
