"""The catalogue of tools: its cost in tokens, its order, and schemas that are true."""

from __future__ import annotations

import json

from orchestrator.mcp.arguments import ARGUMENTS
from orchestrator.mcp.budget import count
from orchestrator.mcp.definitions import TOOLS

MOST_TOKENS = 1500


def served() -> list[dict[str, object]]:
    return [tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in TOOLS]


def test_catalogue_costs_few_tokens() -> None:
    cost = count(json.dumps(served(), separators=(",", ":")))
    assert 500 < cost <= MOST_TOKENS


def test_tools_are_complete_and_in_a_fixed_order() -> None:
    assert [tool.name for tool in TOOLS] == [
        "execute_code",
        "get_execution",
        "cancel_execution",
        "read_output",
        "list_environments",
        "search_tools",
    ]
    for tool in TOOLS:
        assert tool.title
        assert tool.description
        assert tool.annotations is not None
        assert tool.annotations.open_world_hint is False
        assert tool.output_schema is not None
        assert set(tool.output_schema["required"]) <= set(tool.output_schema["properties"])


def test_description_has_the_facts_that_are_in_no_schema() -> None:
    described = TOOLS[0].description or ""
    for fact in (
        "without network",
        "Files and variables of earlier calls are gone",
        "they are in the working directory",
        "Returns mayfly.result(x)",
        "names of new files",
    ):
        assert fact in described


def test_schemas_name_the_arguments_that_are_taken() -> None:
    for tool in TOOLS:
        model = ARGUMENTS[tool.name]
        assert set(tool.input_schema["properties"]) == set(model.model_fields)
        required = {name for name, field in model.model_fields.items() if field.is_required()}
        assert set(tool.input_schema.get("required", [])) == required
