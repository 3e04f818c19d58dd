"""The descriptions that programs read: files and search, of the execution's tools alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.models import Specification
from orchestrator.models.tools import CallerTool
from tests.builders.tool_calls import catalogue
from tests.fuzz.outside import GENUINE
from worker.attempt.tools import descriptions
from worker.attempt.tools.descriptions import Descriptions, searched

CATALOGUES = (catalogue("read", "write", digest="1"), catalogue("list", server="git-hub", digest="2"))
OWN = CallerTool(name="own", inputSchema={"type": "object", "properties": {"key": {"type": "string"}}})


def specification(*tools: str | CallerTool, **changed: Any) -> Specification:
    return GENUINE.model_copy(update={"tools": tools, "entrypoint": "main.py", **changed})


def test_files_describe_granted_tools_alone() -> None:
    files = Descriptions().of(CATALOGUES, specification("files.read", "git-hub.*", OWN)).files
    assert set(files) == {"INDEX", "names.json", "files/read.py", "git_hub/list.py", "caller/own.py"}
    assert json.loads(files["names.json"]) == {
        "caller.own": ["caller", "own"],
        "files.read": ["files", "read"],
        "git_hub.list": ["git-hub", "list"],
    }
    assert "write" not in json.dumps(files)


def test_node_gets_its_own_types() -> None:
    files = Descriptions().of(CATALOGUES, specification("files.read", entrypoint="main.js")).files
    assert set(files) == {"INDEX", "names.json", "files/read.d.ts"}


def test_descriptions_are_made_once_for_equal_executions() -> None:
    kept = Descriptions()
    first = kept.of(CATALOGUES, specification("files.*"))
    assert kept.of(CATALOGUES, specification("files.*")) is first
    changed = (catalogue("read", "write", digest="3"), CATALOGUES[1])
    down = (catalogue("read", "write", digest="1", state="quarantined"), CATALOGUES[1])
    for others in (
        kept.of(CATALOGUES, specification("files.read")),
        kept.of(CATALOGUES, specification("files.*", tenant="other")),
        kept.of(CATALOGUES, specification("files.*", entrypoint="main.js")),
        kept.of(CATALOGUES, specification("files.*", OWN)),
        kept.of(changed, specification("files.*")),
        kept.of(down, specification("files.*")),
    ):
        assert others is not first
    assert kept.of(down, specification("files.*")).files["INDEX"] == ""


def test_the_number_of_kept_descriptions_is_bounded() -> None:
    kept = Descriptions()
    first = kept.of(CATALOGUES, specification("*"))
    for number in range(100):
        kept.of(CATALOGUES, specification("*", tenant=f"t{number}"))
    assert len(kept._kept) <= 64
    assert kept.of(CATALOGUES, specification("*")) is not first


def test_the_size_of_kept_descriptions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tenant, and each choice of tools, has its own; and a tool server may list megabytes."""
    kept = Descriptions()
    size = sum(map(len, kept.of(CATALOGUES, specification("*", tenant="t0")).files.values()))
    monkeypatch.setattr(descriptions, "MOST_KEPT_CHARACTERS", 3 * size)
    for number in range(1, 20):
        assert kept.of(CATALOGUES, specification("*", tenant=f"t{number}")).files
    assert len(kept._kept) == 4  # the last was kept before its files were made
    monkeypatch.setattr(descriptions, "MOST_KEPT_CHARACTERS", 0)
    assert kept.of(CATALOGUES, specification("*", tenant="t19")).files, "what is asked for is there"
    assert len(kept._kept) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"query": "read"}, [("files.read", "signature")]),
        ({"query": "read", "detail": "definitions"}, [("files.read", "definition")]),
        ({"query": "write"}, []),
        ({"query": "", "server": "git-hub"}, [("git_hub.list", "signature")]),
    ],
)
def test_search_finds_granted_tools_alone(arguments: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    description = Descriptions().of(CATALOGUES, specification("files.read", "git-hub.*"))
    outcome = searched(description, json.dumps(arguments))
    found = json.loads(outcome.result or "")
    assert [(one["name"], key) for one, (_, key) in zip(found, expected, strict=True)] == expected
    assert all(key in one for one, (_, key) in zip(found, expected, strict=True))


def test_search_may_give_names_alone() -> None:
    description = Descriptions().of(CATALOGUES, specification("*"))
    outcome = searched(description, json.dumps({"query": "", "detail": "names", "limit": 2}))
    assert json.loads(outcome.result or "") == ["files.read", "files.write"]


@pytest.mark.parametrize(
    "arguments", ["", "[]", "{}", '{"query": 1}', '{"query": "", "lmit": 1}', '{"query": "x", "limit": 0}']
)
def test_a_search_that_is_none_is_refused_with_its_parameters(arguments: str) -> None:
    outcome = searched(Descriptions().of(CATALOGUES, specification("*")), arguments)
    assert outcome.failure is not None
    assert outcome.failure.code == "tool_arguments_invalid"
    assert outcome.failure.valid_parameters == ("query", "server", "detail", "limit", "max_tokens")
