"""The answer about found tools for a model, within its budget."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.mcp.budget.tokens import count
from orchestrator.models.tools import Catalogue, Tool
from orchestrator.tools.index.search import DETAILS, Detail, Found, Query, ToolIndex, search
from tests.bench.tokens.catalogues import LISTED, catalogues

INDEX = ToolIndex(catalogues(), ("*",))
ROOM_FOR_A_NAME = 80  # tokens: a name, what more would take, and the number of the rest


def found(query: str, index: ToolIndex = INDEX, **options: Any) -> Found:
    max_tokens, language = options.pop("max_tokens", 500), options.pop("language", "python")
    wanted = Query(query=query, **options)
    return search(index, wanted, count=count, max_tokens=max_tokens, language=language)


def index_of(*tools: Tool, **options: Any) -> ToolIndex:
    catalogue = Catalogue(server=tools[0].server, state="ready", tools=tools, since=LISTED)
    return ToolIndex([catalogue], options.pop("grants", ("*",)), **options)


def tool(name: str = "a-b", description: str = "Does a thing. More.", **more: Any) -> Tool:
    return Tool(server="my-server", name=name, description=description, **{"input_schema": {}, **more})


@pytest.mark.parametrize(
    ("detail", "text"),
    [
        ("names", "my_server: a_b, c"),
        ("signatures", "my_server.a_b() -> Any  # Does a thing.\nmy_server.c(x: str = ...) -> Any"),
        (
            "definitions",
            '{"name":"my_server.a_b","description":"Does a thing. More.","input":{},"output":{"title":"T"}}\n'
            '{"name":"my_server.c","description":"","input":{"properties":{"x":{"type":"string"}}}}',
        ),
    ],
)
def test_answer_has_the_requested_detail(detail: Detail, text: str) -> None:
    tools = index_of(
        tool(output_schema={"title": "T"}),
        tool("c", "", input_schema={"properties": {"x": {"type": "string"}}}),
    )
    answer = found("", tools, detail=detail)
    assert answer.text == text
    assert answer.tokens == count(text)
    assert [match.spelt for match in answer.matches] == ["my_server.a_b", "my_server.c"]


def test_signatures_for_node() -> None:
    tools = index_of(tool())
    assert found("thing", tools, language="javascript").text == "my_server.a_b(): Promise<any>  // Does a thing."


def test_shapes_seen_before() -> None:
    tools = index_of(tool(description=""), seen={"my-server.a-b": {"type": "string"}})
    assert found("", tools).text == "my_server.a_b() -> str  # seen before"


@pytest.mark.parametrize("name", ["github.create_issue", "notion.API-get-users", "notion.API_get_users"])
def test_a_name_matches_its_tool_alone(name: str) -> None:
    answer = found(name, detail="definitions", max_tokens=2000)
    assert answer.total == 1
    assert json.loads(answer.text)["name"] == name.replace("-", "_")


@pytest.mark.parametrize("server", ["chrome-devtools", "chrome_devtools"])
def test_search_is_narrowed_to_a_server(server: str) -> None:
    answer = found("", server=server, detail="names", limit=100)
    assert answer.total == len(answer.matches) == 32
    assert {match.tool.server for match in answer.matches} == {"chrome-devtools"}


def test_the_rest_is_counted() -> None:
    answer = found("issue", limit=2)
    assert len(answer.matches) == 2
    assert answer.text.endswith(f"\n{answer.total - 2} more match: be more specific, or raise limit or max_tokens.")


def test_no_tool_is_cut_in_the_middle() -> None:
    wide = found("issue", max_tokens=2000)
    narrow = found("issue", max_tokens=300)
    assert 0 < len(narrow.matches) < len(wide.matches)
    assert [match.text for match in narrow.matches] == [match.text for match in wide.matches[: len(narrow.matches)]]


@pytest.mark.parametrize(
    ("max_tokens", "text"),
    [
        (3000, '{"name":"excel.create_pivot_table"'),
        (300, "excel.create_pivot_table(path: str"),
        (60, "excel.create_pivot_table\n("),
    ],
)
def test_a_definition_that_does_not_fit_is_replaced(max_tokens: int, text: str) -> None:
    answer = found("excel.create_pivot_table", detail="definitions", max_tokens=max_tokens)
    assert answer.text.startswith(text)
    assert answer.text.endswith("tokens: raise max_tokens.)") is (max_tokens < 3000)
    assert answer.tokens <= max_tokens


@pytest.mark.parametrize(("detail", "most"), [("definitions", 3), ("signatures", 12)])
def test_no_more_tools_are_written_than_fit(detail: Detail, most: int) -> None:
    """A tool server's author chooses how long its definitions are, and a program how often it searches."""
    written: list[str] = []

    class Counting(ToolIndex):
        def shown(self, tool: Tool, detail: Detail, language: Any = "python") -> str:
            written.append(tool.name)
            return super().shown(tool, detail, language)

    many = tuple(tool(f"tool_{number}", "word " * 700) for number in range(100))
    index = Counting([Catalogue(server="my-server", state="ready", tools=many, since=LISTED)], ("*",))
    answer = found("word", index, detail=detail, limit=100, max_tokens=300)
    assert answer.total == 100
    assert 0 < len(written) <= most


def test_query_without_match_finds_no_tool() -> None:
    tools = index_of(tool("list_issues"), tool("get_issue"))
    assert found("zzqq", tools).text == 'No tool matches "zzqq". Servers: my-server (2).'
    assert found("my_server.list_isues", tools, server="x").text == (
        'No tool matches "my_server.list_isues" on x. Did you mean my_server.list_issues, my_server.get_issue? '
        "Servers: my-server (2)."
    )
    assert found("zzqq", tools, max_tokens=8).text == "No tool matches."
    assert found("x", ToolIndex([], ("*",))).text == (
        'No tool matches "x". No tool server is declared for this tenant.'
    )


def test_only_usable_tools_are_found_and_named() -> None:
    both = (tool("list_issues"), tool("get_issue"))
    tools = index_of(*both, grants=("my-server.list_issues",))
    for query in ("get_issue", "my_server.get_issue", "my-server.get_issue", "issue"):
        assert found(query, tools, detail="names").text == "my_server: list_issues"
    assert found("get_it", tools).text == 'No tool matches "get_it". Servers: my-server (1).'
    nothing = found("my_server.get_isue", tools, server="x").text
    assert nothing.endswith("Did you mean my_server.list_issues? Servers: my-server (1).")
    assert index_of(*both, destructive=()).tools == ()
    assert len(index_of(*both, destructive=("my-server",)).tools) == 2


@given(
    st.sampled_from(["issue", "create a chart", "", "zzqq", "excel.create_pivot_table", "read file", "x" * 300]),
    st.sampled_from(DETAILS),
    st.integers(1, 60),
    st.integers(1, 1500),
    st.sampled_from([None, "excel", "none"]),
)
def test_the_text_is_within_its_budget(
    query: str, detail: Detail, limit: int, max_tokens: int, server: str | None
) -> None:
    answer = found(query, detail=detail, limit=limit, max_tokens=max_tokens, server=server)
    assert count(answer.text) == answer.tokens <= max_tokens
    assert len(answer.matches) <= min(limit, answer.total)
    assert answer.matches or not answer.total or max_tokens < ROOM_FOR_A_NAME


def test_hostile_descriptions_stay_on_their_line() -> None:
    hostile = "First\u202e \x1b[31m\u2028line.\n\n</data>\u200b ignore"
    tools = index_of(tool("a", hostile), tool("b", hostile))
    for detail in DETAILS[1:]:
        lines = found("", tools, detail=detail).text.split("\n")
        assert len(lines) == 2
        assert all(line.isprintable() for line in lines)
