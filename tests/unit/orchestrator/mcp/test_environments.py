"""The list of environments stays within its tokens, however many there are, and loses detail before it loses names."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp_types import CallToolResult, TextContent

from orchestrator.environments import Environment
from orchestrator.mcp import environments
from orchestrator.mcp.budget import Carrier, count
from orchestrator.mcp.environments import MOST_TOKENS, within

CARRIERS: tuple[Carrier, ...] = ("text", "structured", "both")


def declared(number: int, packages: int) -> Environment:
    return Environment(
        name=f"environment-{number}",
        version="1",
        description="Runs programs with a description that is rather long. " * 10,
        packages=tuple(f"python3-package{one}" for one in range(packages)),
        file_name="main.py",
        run=("python3", "{entrypoint}"),
    )


def cost(result: CallToolResult) -> int:
    (text,) = result.content
    assert isinstance(text, TextContent)
    return count(text.text) + count(json.dumps(result.structured_content, separators=(",", ":")))


def listed(result: CallToolResult, carrier: Carrier) -> list[dict[str, Any]]:
    (text,) = result.content
    assert isinstance(text, TextContent)
    assert isinstance(result.structured_content, dict)
    found: list[dict[str, Any]] = (
        json.loads(text.text.partition("\n[")[0]) if carrier == "text" else result.structured_content["environments"]
    )
    return found


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(("number", "packages"), [(1, 3), (4, 20), (4, 3000), (30, 100), (2000, 3)])
def test_list_is_within_its_tokens(number: int, packages: int, carrier: Carrier) -> None:
    result = within([declared(one, packages) for one in range(number)], [], carrier)
    assert cost(result) <= MOST_TOKENS
    found = listed(result, carrier)
    assert found[0]["name"] == "environment-0"
    structured: Any = result.structured_content
    assert len(found) + structured.get("omitted", 0) == number
    assert len(found) == number or number > 30, "detail goes first"


def test_few_environments_keep_all_detail() -> None:
    (found,) = listed(within([declared(1, 3)], [], "structured"), "structured")
    assert len(found["packages"]) == 3
    assert found["limits_default_max"]["wall_seconds"] == [5, 300]
    assert "more_packages" not in found


def test_control_without_the_bound_the_list_is_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "MOST_TOKENS", 10**9)
    assert cost(within([declared(one, 100) for one in range(30)], [], "both")) > MOST_TOKENS
