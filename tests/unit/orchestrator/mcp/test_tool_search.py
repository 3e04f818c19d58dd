"""The answer of ``search_tools`` in the part that a client gives to its model, within the model's tokens."""

from __future__ import annotations

import json
from typing import get_args

import jsonschema_rs
import pytest

from orchestrator.mcp.budget import Carrier, count
from orchestrator.mcp.definitions import BY_NAME
from orchestrator.mcp.tool_search import COUNT_TOKENS, cost, result_of

TEXT = 'github.create_issue(title: str)  # Create an "issue"\n' * 20
TOTALS = (0, 20, 99_999)


@pytest.mark.parametrize("carrier", get_args(Carrier))
@pytest.mark.parametrize("total", TOTALS)
def test_answer_has_its_counted_cost_and_matches_its_schema(carrier: Carrier, total: int) -> None:
    found = result_of(TEXT, total, carrier)
    assert found.structured_content is not None
    schema = BY_NAME["search_tools"].output_schema
    assert schema is not None
    jsonschema_rs.validate(schema, found.structured_content)
    (shown,) = found.content
    assert shown.type == "text"
    structured = json.dumps(found.structured_content, ensure_ascii=False, separators=(",", ":"))
    spent = count(shown.text) + count(structured)
    assert cost(carrier, TEXT) < spent <= cost(carrier, TEXT) + COUNT_TOKENS
    assert found.structured_content["total"] == total


@pytest.mark.parametrize("carrier", get_args(Carrier))
def test_text_is_where_the_client_looks(carrier: Carrier) -> None:
    found = result_of(TEXT, 20, carrier)
    (shown,) = found.content
    assert shown.type == "text"
    assert (shown.text == TEXT) is (carrier != "structured")
    assert (found.structured_content or {}).get("tools") == (TEXT if carrier != "text" else None)
