"""Properties of all models."""

from __future__ import annotations

from orchestrator.models import Frozen


class Named(Frozen):
    id: str


def test_the_parser_keeps_no_value_of_a_document() -> None:
    """The parser would keep thousands of strings: at least one id of each execution."""
    document = '{"id": "0123456789abcdef0123456789abcdef"}'
    first, second = Named.model_validate_json(document), Named.model_validate_json(document)
    assert first == second
    assert first.id is not second.id
