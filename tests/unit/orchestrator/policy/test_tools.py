"""Tools of a submission: what is refused, with field, code and bound, and what a worker gets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.environments import load_environments
from orchestrator.errors import ValidationFailed
from orchestrator.models import Specification
from orchestrator.models.submission import Submission
from orchestrator.policy.submission import specify
from orchestrator.policy.tools import DEFINITIONS_BYTES, SCHEMA_BYTES, schema_problem
from orchestrator.store.executions.sealing import open_sealed, seal
from orchestrator.tools.checking import steps
from tests.harness import ROOT

ENVIRONMENTS = load_environments([ROOT / "sandbox_image" / "environments"])
SCHEMA = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}
LOOKUP = {"name": "lookup", "inputSchema": SCHEMA}
LARGE = {"type": "object", "description": "x" * (SCHEMA_BYTES - 100)}
KEY = b"k" * 32


def specified(*tools: Any) -> Specification:
    return specify(
        Submission.model_validate({"environment": "python", "code": "1", "tools": list(tools)}),
        ENVIRONMENTS,
        id="i",
        tenant="t",
        created_at=datetime.now(UTC),
        max_input_bytes=1000,
    )


def test_worker_gets_the_tools_under_the_seal() -> None:
    whole = {**LOOKUP, "description": "Look up.", "outputSchema": {"type": "integer"}}
    specification = specified("github.*", "files.read", "*", LOOKUP, {**whole, "name": "whole"})
    body, signature = seal(specification, KEY)
    opened = open_sealed("i", body, signature, KEY)
    assert opened == specification
    assert opened.tools[:3] == ("github.*", "files.read", "*")
    assert opened.model_dump(mode="json")["tools"][4] == {**whole, "name": "whole"}


def test_older_workers_take_specifications_without_tools() -> None:
    assert "tools" not in specified().model_dump()
    assert b'"tools"' not in seal(specified(), KEY)[0]


@pytest.mark.parametrize("grant", ["github", "GitHub.x", "github.", ".x", "git hub.x", "github.a b", "**", "", "*.x"])
def test_pattern_that_names_no_tool_is_refused(grant: str) -> None:
    with pytest.raises(ValidationError, match=r"tools\.0\.grant"):
        specified(grant)


def costly(number: int) -> dict[str, Any]:
    """A definition whose schema takes some thousand steps to be read, and is no other's."""
    return {"name": f"t{number}", "inputSchema": {"type": "object", "title": f"{number}", "allOf": [{}] * 100}}


def test_schemas_of_a_submission_share_the_steps_of_one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MAX_STEPS", 4000)
    for number in range(6):
        specified(costly(number + 1000))  # the control: each by itself
    with pytest.raises(ValidationFailed, match="too many steps"):
        specified(*map(costly, range(6)))


def test_no_schema_is_read_of_definitions_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    monkeypatch.setattr("orchestrator.policy.tools.check_schema", lambda schema, _: read.append(schema))
    fill = {"name": "fill", "description": "x" * 4096, "inputSchema": LARGE}
    with pytest.raises(ValidationFailed, match="definitions have"):
        specified(*({**fill, "name": f"t{number}"} for number in range(64)))
    assert read == []
    specified(LOOKUP)
    assert read == [SCHEMA]


@pytest.mark.parametrize(
    ("tools", "field", "code", "bound"),
    [
        ([LOOKUP, LOOKUP], "tools.1.name", "duplicate_tool", None),
        (["github.*", "caller.lookup", LOOKUP], "tools.1", "invalid_tool", None),
        ([{**LOOKUP, "inputSchema": {"type": "array"}}], "tools.0.inputSchema", "invalid_tool_schema", None),
        ([{**LOOKUP, "outputSchema": {"type": "any"}}], "tools.0.outputSchema", "invalid_tool_schema", None),
        (
            [{**LOOKUP, "inputSchema": {"type": "object", "title": "x" * SCHEMA_BYTES}}],
            "tools.0.inputSchema",
            "tool_schema_too_large",
            SCHEMA_BYTES,
        ),
        (
            [{"name": f"t{n}", "inputSchema": LARGE} for n in range(5)],
            "tools",
            "tool_schema_too_large",
            DEFINITIONS_BYTES,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistake_in_a_definition_is_refused(tools: list[Any], field: str, code: str, bound: int | None) -> None:
    with pytest.raises(ValidationFailed) as refused:
        specified(*tools)
    [mistake] = refused.value.errors
    assert (mistake.field, refused.value.code, mistake.bound) == (field, code, bound)


def test_definitions_up_to_their_bounds_are_accepted() -> None:
    assert len(specified(*({"name": f"t{n}", "inputSchema": LARGE} for n in range(4))).tools) == 4
    assert len(specified(*({**LOOKUP, "name": f"t{n}"} for n in range(64))).tools) == 64
    with pytest.raises(ValidationError, match="at most 64"):
        specified(*({**LOOKUP, "name": f"t{n}"} for n in range(65)))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"$ref": {"type": "string"}}},
        {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "integer"}}},
        {"type": "object", "properties": {"a": {"const": {"$ref": "https://example.org/"}}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "definitions": {"a": {}}},
    ],
)
def test_schema_of_an_object_is_accepted(schema: dict[str, Any]) -> None:
    assert schema_problem(schema, of_object=True) == ""


@pytest.mark.parametrize(
    ("schema", "reported"),
    [
        ({}, "type 'object'"),
        ({"type": "string"}, "type 'object'"),
        ({"type": "object", "properties": []}, "invalid at properties"),
        ({"type": "object", "properties": {"a": {"type": "int"}}}, "invalid at properties/a/type"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}, "reference '#/$defs/A'"),
        ({"type": "object", "properties": {"a": {"$ref": "http://169.254.169.254/"}}}, "reference 'http://169.254"),
        ({"type": "object", "items": [{"$dynamicRef": "file:///etc/passwd"}]}, "invalid at items"),
        ({"type": "object", "allOf": [{"$dynamicRef": "file:///etc/passwd"}]}, "reference 'file:"),
    ],
)
def test_mistake_in_a_schema_is_named(schema: dict[str, Any], reported: str) -> None:
    assert reported in schema_problem(schema, of_object=True)


def test_result_may_be_of_any_type() -> None:
    assert schema_problem({"type": "array", "items": {"type": "integer"}}, of_object=False) == ""
    assert schema_problem({}, of_object=False) == ""
