"""Any input to any tool: no internal error, and a bounded answer that teaches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from orchestrator.mcp.budget import count
from orchestrator.mcp.definitions import TOOLS
from tests.builders.mcp_calls import ERAS, MODERN, Agent
from tests.harness import Stack

FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
MOST_TOKENS = 1000
MOST_LISTED = 2200  # with what surrounds a list
NASTY = ["", "\0", "\ud800", "../../etc/passwd", "<|endoftext|>", "(a+)+$", "(?P<x", "9" * 400, "0" * 32, "é" * 3000]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=50),
    st.sampled_from(NASTY),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A tool, and arguments of which some have the right names and types."""
    tool = draw(st.sampled_from(TOOLS))
    arguments: dict[str, Any] = {}
    for name, schema in tool.input_schema["properties"].items():
        if not draw(st.booleans()):
            continue
        match schema.get("type"):
            case "string" if "enum" in schema:
                usual: st.SearchStrategy[Any] = st.sampled_from(schema["enum"])
            case "string":
                usual = st.sampled_from([*NASTY, "print(1)", "python"])
            case "integer" | "number":
                usual = st.integers(-5, 10**9)
            case _:
                usual = VALUES
        arguments[name] = draw(usual | VALUES)
    arguments |= draw(st.dictionaries(st.text(max_size=10), VALUES, max_size=1))
    if "wait_seconds" in tool.input_schema["properties"]:
        arguments["wait_seconds"] = draw(st.sampled_from([0, 0.001, -1, "x"]))
    return tool.name, arguments


@FUZZ
@given(call=calls())
def test_no_input_is_an_internal_error_or_unbounded(api: Stack, call: tuple[str, dict[str, Any]]) -> None:
    name, arguments = call
    body, headers = Agent(api, MODERN).message("tools/call", {"name": name, "arguments": arguments})
    raw = json.dumps(body).encode()
    answer = api.client.post("/mcp", content=raw, headers={**headers, "Content-Type": "application/json"})
    assert answer.status_code in (200, 400), answer.text
    found = answer.json()
    assert "internal" not in answer.text.lower(), (call, answer.text)
    if "error" in found:
        assert found["error"]["code"] in (-32602, -32600, -32700), found
    else:
        assert count(answer.text) <= (MOST_LISTED if name == "list_environments" else MOST_TOKENS), (call, answer.text)
        assert found["result"]["content"][0]["text"]


@pytest.mark.parametrize("era", ERAS)
def test_mistakes_name_the_field_and_the_bound(api: Stack, era: str) -> None:
    agent = Agent(api, era)
    assert "limits.memory_bytes: is above the bound of 2147483648" in agent.error(
        "execute_code", code="1", limits={"memory_bytes": 2**40}
    )
    assert "known are: bash, node, python" in agent.error("execute_code", code="1", environment="cobol")
    assert "is not an argument of this tool; known are: execution_id" in agent.error(
        "get_execution", execution_id="0" * 32, id=1
    )
    assert "code: Field required" in agent.error("execute_code")
    assert "RE2" in agent.error("read_output", execution_id="0" * 32, grep="(a")
    assert "send one of them" in agent.error("read_output", execution_id="0" * 32, line=1, offset=1)


@pytest.mark.parametrize("era", ERAS)
def test_list_of_tools_as_served_costs_few_tokens(api: Stack, era: str) -> None:
    tools = Agent(api, era).result("tools/list")["tools"]
    assert [tool["name"] for tool in tools] == [tool.name for tool in TOOLS]
    assert count(json.dumps(tools, ensure_ascii=False, separators=(",", ":"))) <= 1500


def test_unknown_tool_is_a_tools_error_and_unknown_method_the_protocols(api: Stack) -> None:
    assert "execute_code" in Agent(api).error("nope")
    assert Agent(api).request("nope/nope").json()["error"]["code"] == -32601


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"jsonrpc":"2.0","id":1}', b"9" * 10_000]
)
@pytest.mark.parametrize("era", ERAS)
def test_malformed_bodies_are_refused(api: Stack, era: str, raw: bytes) -> None:
    _, headers = Agent(api, era).message("tools/list")
    answer = api.client.post("/mcp", content=raw, headers={**headers, "Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert "Traceback" not in answer.text
