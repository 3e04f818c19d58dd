"""Results of tools become plain data, within bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.broker.links import results
from orchestrator.broker.links.results import outcome
from orchestrator.models.tools import Schema, Tool
from tests.builders.brokers import code

WRAPPED: Schema = {"type": "object", "properties": {"result": {"type": "integer"}}, "required": ["result"]}
OBJECT: Schema = {"type": "object", "properties": {"rows": {"type": "array"}}}
ROWS: Schema = {"type": "array", "items": {"type": "integer"}}
TEXT = {"type": "text", "text": "hello"}
IMAGE = {"type": "image", "data": "AAAA", "mimeType": "image/png"}


def tool(output: Schema | None = None) -> Tool:
    return Tool(server="s", name="t", input_schema={}, output_schema=output)


@pytest.mark.parametrize(
    ("schema", "result", "expected"),
    [
        (OBJECT, {"content": [TEXT], "structuredContent": {"rows": [1]}}, {"rows": [1]}),
        (None, {"content": [], "structuredContent": {"result": 1}}, {"result": 1}),
        (WRAPPED, {"content": [TEXT], "structuredContent": {"result": 3}}, 3),
        (WRAPPED, {"content": [], "structuredContent": {"result": 3, "more": 1}}, {"result": 3, "more": 1}),
        (None, {"content": [TEXT]}, "hello"),
        (None, {"content": [{"type": "text", "text": "[1]"}]}, "[1]"),
        (ROWS, {"content": [{"type": "text", "text": "[1]"}]}, [1]),
        ({"$ref": "http://x.example/schema"}, {"content": [TEXT]}, "hello"),
        (None, {"content": [TEXT, {**IMAGE, "_meta": {"x": 1}}]}, [TEXT, IMAGE]),
        (None, {"content": []}, []),
        (None, {"content": [{"type": "text", "text": "<|endoftext|>\u2028"}]}, "<|endoftext|>\u2028"),
    ],
)
def test_result_becomes_plain_data(schema: Schema | None, result: dict[str, Any], expected: object) -> None:
    found = outcome(tool(schema), result, 1000, None)
    assert found.failure is None
    assert json.loads(found.result or "") == expected


def test_error_of_a_tool_is_its_text_bounded() -> None:
    found = outcome(tool(), {"content": [{"type": "text", "text": "x" * 10_000}, IMAGE], "isError": True}, 1000, None)
    assert found.failure is not None
    assert (found.failure.code, len(found.failure.message)) == ("tool_failed", results.MOST_ERROR_CHARACTERS)
    assert "without a text" in (outcome(tool(), {"content": [], "isError": True}, 9, None).failure or TEXT).message  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"content": "text"},
        {"content": [1]},
        {"content": [{"type": "text", "text": "\ud800"}]},
        {"content": [], "structuredContent": {"x": float("nan")}},
    ],
    ids=["nothing", "text", "number", "surrogate", "nan"],
)
def test_malformed_result_is_a_failure(result: dict[str, Any]) -> None:
    assert code(outcome(tool(), result, 1000, None)) == "tool_result_invalid"


@pytest.mark.parametrize(
    ("schema", "result", "mistake"),
    [
        (OBJECT, {"content": [], "structuredContent": {"rows": "none"}}, '"rows" must be of type "array"'),
        (OBJECT, {"content": [TEXT]}, 'the result must be of type "object"'),
        (WRAPPED, {"content": [], "structuredContent": {"other": 1}}, '"result" missing in the result'),
        (WRAPPED, {"content": [], "structuredContent": {"result": "3"}}, '"result" must be of type "integer"'),
        (WRAPPED | {"additionalProperties": False}, {"content": [], "structuredContent": {"result": 3, "x": 1}}, "x"),
        (ROWS, {"content": [{"type": "text", "text": '[1, "2"]'}]}, '"[1]" must be of type "integer"'),
    ],
)
def test_result_that_breaks_its_schema_is_a_failure(schema: Schema, result: dict[str, Any], mistake: str) -> None:
    found = outcome(tool(schema), result, 1000, None).failure
    assert found is not None
    assert (found.code, mistake in found.message) == ("tool_result_invalid", True), found.message
    assert code(outcome(tool(), result, 1000, None)) == "ok", "a tool without a schema promises nothing"


def test_error_of_a_tool_with_a_schema_stays_its_error() -> None:
    assert code(outcome(tool(OBJECT), {"content": [TEXT], "isError": True}, 1000, None)) == "tool_failed"


def test_bound_counts_bytes_of_the_result() -> None:
    two_bytes_each = {"content": [{"type": "text", "text": "ä" * 10}]}
    assert code(outcome(tool(), two_bytes_each, 22, None)) == "ok"
    assert code(outcome(tool(), two_bytes_each, 21, None)) == "tool_result_too_large"


def test_personal_data_is_replaced_in_every_text() -> None:
    def label(text: str) -> str:
        return text.replace("a@b.example", "[EMAIL_1]")

    result = {"content": [], "structuredContent": {"a@b.example": ["to a@b.example", 1, None]}}
    assert json.loads(outcome(tool(), result, 1000, label).result or "") == {"[EMAIL_1]": ["to [EMAIL_1]", 1, None]}
    failed = outcome(tool(), {"content": [{"type": "text", "text": "no a@b.example"}], "isError": True}, 99, label)
    assert failed.failure is not None
    assert failed.failure.message == "no [EMAIL_1]"
