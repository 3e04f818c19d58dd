"""Every door to the search of tools takes the one query: REST, MCP, programs, the client and the command line."""

from __future__ import annotations

import inspect

import pytest

from mayfly import AsyncClient, Client
from orchestrator.api.routes.tools import ToolQuery
from orchestrator.cli.commands.tools.finding import search as command
from orchestrator.mcp.arguments import SearchTools
from orchestrator.mcp.definitions import BY_NAME
from orchestrator.tools.index.search import Query
from worker.attempt.tools.descriptions import Search


@pytest.mark.parametrize("door", [ToolQuery, SearchTools, Search])
def test_door_has_all_fields_of_a_query(door: type[Query]) -> None:
    assert issubclass(door, Query)
    assert set(door.model_fields) - set(Query.model_fields) <= {"max_tokens", "language"}


def test_clients_and_api_have_the_same_parameters() -> None:
    for function, own in ((Client.search_tools, "self"), (AsyncClient.search_tools, "self"), (command, "json")):
        assert set(inspect.signature(function).parameters) - {own} == set(ToolQuery.model_fields), function


def test_tool_declares_its_parameters() -> None:
    assert set(BY_NAME["search_tools"].input_schema["properties"]) == set(SearchTools.model_fields)
