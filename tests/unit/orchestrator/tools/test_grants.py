"""The tools that a submission's patterns grant."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.models.submission import Submission
from orchestrator.models.tools import CallerTool, Catalogue, Tool
from orchestrator.tools.grants import allowed, usable

OWN = CallerTool(name="ask", inputSchema={"type": "object"})


@pytest.mark.parametrize(
    ("grants", "tool", "expected"),
    [
        (("github.list_issues",), "github.list_issues", True),
        (("github.list_issues",), "github.list_issue", False),
        (("github.list_issues",), "github.list_issues_all", False),
        (("github.*",), "github.list_issues", True),
        (("github.*",), "github.a.b", True),
        (("git.*",), "github.list_issues", False),
        (("github.a.*",), "github.a.b", False),
        (("github.",), "github.x", False),
        (("github",), "github.github", False),
        (("*",), "github.list_issues", True),
        (("*.list_issues",), "github.list_issues", False),
        (("*",), "github", False),
        (("*",), "github.", False),
        (("*",), ".x", False),
        ((), "github.list_issues", False),
        ((OWN,), "caller.ask", True),
        ((OWN,), "caller.other", False),
        ((OWN,), "github.ask", False),
        (("*",), "caller.ask", False),
        (("caller.*", "caller.ask"), "caller.ask", False),
    ],
)
def test_patterns_grant_the_matching_tools(grants: tuple[str | CallerTool, ...], tool: str, expected: bool) -> None:
    assert allowed(grants, tool) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", True),
        ("github.*", True),
        ("my-server_2.tool.with/parts", True),
        ("github", False),
        ("github.", False),
        ("GitHub.*", False),
        ("*.x", False),
        ("github.list_*", False),
        ("github.list issues", False),
        ("github.x\n", False),
    ],
)
def test_submission_takes_patterns_alone(text: str, expected: bool) -> None:
    submitted = {"environment": "python", "code": "1", "tools": [text]}
    with nullcontext() if expected else pytest.raises(ValidationError):
        assert Submission.model_validate(submitted).tools == (text,)


@given(
    st.sets(st.sampled_from(["*", "a.*", "b.*", "a.x", "a.y", "b.x", "ab.*", "a", ""])),
    st.sampled_from(["a.x", "a.y", "b.x", "ab.x", "a.*", "caller.x", "c.x"]),
)
def test_a_tool_is_allowed_by_exactly_its_own_three_patterns(grants: set[str], tool: str) -> None:
    server = tool.partition(".")[0]
    expected = server != "caller" and bool(grants & {"*", f"{server}.*", tool})
    assert allowed(grants, tool) is expected


def test_usable_tools_are_sorted_and_without_quarantined_catalogues() -> None:
    def catalogue(server: str, state: str, *names: str) -> Catalogue:
        tools = [Tool(server=server, name=name, input_schema={}) for name in names]
        return Catalogue.model_validate(
            {"server": server, "state": state, "tools": tools, "since": datetime(2026, 1, 1, tzinfo=UTC)}
        )

    catalogues = [
        catalogue("b", "down", "x"),
        catalogue("a", "ready", "z", "y"),
        catalogue("c", "quarantined", "x"),
        catalogue("d", "ready", "x"),
    ]
    found = usable(catalogues, ("a.*", "b.*", "c.*"))
    assert [tool.full_name for tool in found] == ["a.y", "a.z", "b.x"]
