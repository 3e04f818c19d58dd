"""The tools that programs may call, over REST, MCP, the SDK and the command line: the tenant's own and no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mayfly import Client, InvalidRequest
from orchestrator.mcp.budget.tokens import count
from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import Catalogue, Hints, Tool
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from tests.bench.tokens.catalogues import LISTED, catalogues
from tests.builders.mcp_calls import ERAS, Agent
from tests.harness import ROOT, Stack

TOOLS = "/api/v1/tools"
READING = Hints(read_only=True, destructive=False)


@pytest.fixture
def store(api: Stack) -> Iterator[Store]:
    """The API's own store, with the public catalogues for tenant ``default``, and one of another tenant."""
    made = open_store(Settings(state_dir=Path(api.env["MAYFLY_STATE_DIR"]), redis_url=api.redis.url))
    key = Settings(state_dir=Path(api.env["MAYFLY_STATE_DIR"])).secret()
    for catalogue in catalogues():
        declared = ToolServer(name=catalogue.server, url="http://127.0.0.1:1/mcp", destructive=True)
        made.tools.servers.put("default", declared, key)
        made.tools.catalogues.put("default", catalogue)
    made.tools.servers.put("other", ToolServer(name="own", url="http://127.0.0.1:1/mcp"), key)
    made.tools.catalogues.put("other", own("read_secret", hints=READING))
    yield made
    for tenant in ("default", "other"):
        for server in made.tools.servers.of(tenant, key):
            made.tools.servers.remove(tenant, server.name)
    made.redis.close()


def own(*names: str, hints: Hints = READING, **fields: Any) -> Catalogue:
    tools = tuple(Tool(server="own", name=name, input_schema={"type": "object"}, hints=hints) for name in names)
    return Catalogue(server="own", **{"state": "ready", "tools": tools, "since": LISTED, **fields})


def found(stack: Stack, headers: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
    answer = stack.client.get(TOOLS, params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def names(document: dict[str, Any]) -> list[str]:
    return [item["spelling"] for item in document["items"]]


@pytest.mark.usefixtures("store")
def test_rest_answers_with_ranked_tools_and_the_text_of_a_model(api: Stack) -> None:
    document = found(api, query="create an issue on GitHub", limit=3)
    assert document["total"] > 3
    assert count(document["text"]) == document["tokens"]
    first = document["items"][0]
    assert set(first) == {"server", "name", "spelling", "title", "description", "signature", "hints"}
    assert first["signature"].startswith("github.create_issue(owner: str, repo: str, title: str, body: str = ...")
    assert document["text"].startswith(first["signature"])
    only = found(api, query="create_issue", server="github", detail="names", limit=1)
    assert only["items"] == [
        {"server": "github", "name": "create_issue", "spelling": "github.create_issue", "title": "", "description": ""}
    ]
    whole = found(api, query="github.create_issue", detail="definitions")
    assert whole["total"] == 1
    assert whole["items"][0]["input_schema"]["required"] == ["owner", "repo", "title"]
    assert found(api, query="get_current_time", language="javascript")["items"][0]["signature"].startswith(
        "time.get_current_time({timezone: string}): Promise<{timezone: string"
    )


@pytest.mark.usefixtures("store")
def test_all_tools_are_listed_within_the_bounds(api: Stack) -> None:
    document = found(api, limit=200)
    assert (document["total"], len(document["items"])) == (358, 200)
    assert document["text"].endswith("158 more match: be more specific, or raise limit or max_tokens.")
    small = found(api, limit=200, max_tokens=100)
    assert small["tokens"] <= 100
    assert 0 < len(small["items"]) < 10


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 100_001}, "max_tokens"),
        ({"detail": "all"}, "detail"),
        ({"language": "ruby"}, "language"),
        ({"server": "../x"}, "server"),
        ({"query": "x" * 1001}, "query"),
    ],
)
def test_parameters_out_of_bounds_are_refused(api: Stack, params: dict[str, Any], field: str) -> None:
    answer = api.client.get(TOOLS, params=params)
    assert answer.status_code == 422
    assert field in answer.json()["errors"][0]["field"]


def test_a_tenant_finds_its_own_tools_alone(api: Stack, store: Store) -> None:
    reader = api.headers_of("other", "executions:read")
    assert names(found(api, reader)) == ["own.read_secret"]
    assert "own.read_secret" not in names(found(api, query="own.read_secret", limit=200))
    assert "read_secret" not in found(api, query="own.read_secre")["text"]
    empty = found(api, api.headers_of("third", "executions:read"), query="issue")
    assert empty["items"] == []
    assert empty["text"] == 'No tool matches "issue". No tool server is declared for this tenant.'
    writer = api.client.get(TOOLS, headers=api.headers_of("other", "executions:write"))
    assert (writer.status_code, writer.json()["code"]) == (403, "forbidden")


def test_only_usable_tools_are_found(api: Stack, store: Store) -> None:
    reader = api.headers_of("other", "executions:read")
    key = Settings(state_dir=Path(api.env["MAYFLY_STATE_DIR"])).secret()
    store.tools.catalogues.put("other", own("wipe", hints=Hints()))
    assert names(found(api, reader)) == []
    store.tools.servers.put("other", ToolServer(name="own", url="http://127.0.0.1:1/mcp", destructive=True), key)
    assert names(found(api, reader)) == ["own.wipe"]
    store.tools.catalogues.put("other", own("read", state="quarantined"))
    assert names(found(api, reader)) == []
    store.tools.catalogues.put("other", own("read", state="down"))
    assert names(found(api, reader)) == ["own.read"]


def test_shapes_seen_before_are_shown_at_once(api: Stack, store: Store) -> None:
    reader = api.headers_of("other", "executions:read")
    assert found(api, reader)["items"][0]["signature"] == "own.read_secret() -> Any"
    store.tools.shapes.put("other", "own.read_secret", {"type": "object", "properties": {"a": {"type": "string"}}})
    assert found(api, reader)["items"][0]["signature"] == "own.read_secret() -> {a?: str}  # seen before"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("client", "place"), [("gemini-cli/1", "text"), ("claude-code/2", "tools"), ("x/1", "both")])
@pytest.mark.usefixtures("store")
def test_a_model_searches_within_its_tokens(api: Stack, era: str, client: str, place: str) -> None:
    agent = Agent(api, version=era, headers={"User-Agent": client})

    def search(**more: Any) -> tuple[str, int]:
        """The text that the model gets, and the tokens of all of the answer."""
        answer = agent.call("search_tools", query="create an issue on GitHub", **more)
        [content], structured = answer["content"], answer["structuredContent"]
        assert structured["total"] > 10
        shown = content["text"] if place == "text" else structured["tools"]
        assert (content["text"] == shown) is (place != "tools")
        assert ("tools" in structured) is (place != "text")
        written = json.dumps(structured, ensure_ascii=False, separators=(",", ":"))
        return shown, count(content["text"]) + count(written)

    text, spent = search()
    assert text.startswith("github.create_issue(owner: str, ")
    assert 100 < spent <= 500
    for most in (60, 100):
        _, spent = search(detail="names", max_tokens=most)
        assert spent <= most
    agent = Agent(api, version=era)
    whole = agent.call("search_tools", query="git.git_log", detail="definitions", max_tokens=2000)
    assert json.loads(whole["content"][0]["text"])["name"] == "git.git_log"
    assert "detail" in agent.error("search_tools", detail="everything")
    assert "known are: query, server" in agent.error("search_tools", words="x")


@pytest.mark.usefixtures("store")
def test_a_key_without_reading_searches_nothing(api: Stack) -> None:
    agent = Agent(api, headers=api.headers_of("default", "mcp", "executions:write"))
    assert agent.error("search_tools", query="issue").startswith("forbidden: ")


def test_a_program_of_an_agent_names_its_tools(api: Stack, store: Store) -> None:
    answer = Agent(api).call("execute_code", code="print(1)", tools=["github.*"], wait_seconds=0)
    id = answer["structuredContent"]["execution_id"]
    sealed = json.loads(store.redis.hget(keys.execution(id), "spec"))
    assert sealed["tools"] == ["github.*"]
    assert "tools" in Agent(api).error("execute_code", code="print(1)", tools=["GitHub"])


@pytest.mark.usefixtures("store")
def test_sdk_finds_ranked_tools(api: Stack) -> None:
    with Client(api.env["MAYFLY_URL"], api.key) as client:
        answer = client.search_tools("create an issue on GitHub", server="github", limit=2, max_tokens=400)
        assert answer.items[0].name == "create_issue"
        assert {tool.server for tool in answer.items} == {"github"}
        assert answer.items[0].signature in answer.text
        assert answer.total > 2
        assert answer.tokens == count(answer.text) <= 400
        [whole] = client.search_tools("git.git_log", detail="definitions").items
        assert whole.input_schema is not None
        assert "repo_path" in whole.input_schema["properties"]
        with pytest.raises(InvalidRequest, match="limit"):
            client.search_tools(limit=0)


def command(stack: Stack, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "tools", *words],
        env={**os.environ, **stack.env, "COLUMNS": "200"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("store")
def test_command_prints_ranked_tools(api: Stack) -> None:
    text = command(api, "search", "create an issue on GitHub", "-n", "1")
    assert text.startswith("github.create_issue(owner: str, ")
    assert "more match" in text
    assert command(
        api, "search", "create_issue", "--server", "github", "--detail", "names", "--max-tokens", "60"
    ).startswith("github: create_issue")
    assert "Promise<" in command(api, "search", "time", "--language", "javascript")
    listed = command(api, "list", "--server", "chrome-devtools")
    assert "chrome_devtools.click" in listed
    assert len(json.loads(command(api, "list", "--server", "chrome-devtools", "--json"))["items"]) == 32
    assert "158 more" in command(api, "list")
