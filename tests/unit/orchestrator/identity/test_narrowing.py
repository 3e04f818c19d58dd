"""The names that a narrowed key permits."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import KeyNarrowed
from orchestrator.identity import Narrowing
from orchestrator.identity.narrowing import check_submission, check_tool, grants_of, may_use
from orchestrator.models.submission import Submission

LIMITS = Narrowing(
    environments=("python",), isolation=("hardened",), tools=("github.*", "jira.search"), mounts=("dataset",)
)
ALLOWED: dict[str, Any] = {"environment": "python", "code": "1", "isolation": "hardened"}
DEFINED = {"name": "own", "inputSchema": {"type": "object"}}


def refused(limits: Narrowing = LIMITS, **changed: Any) -> list[str]:
    submission = Submission.model_validate({**ALLOWED, **changed})
    try:
        check_submission(limits, submission, submission.environment)
    except KeyNarrowed as error:
        return [f"{mistake.field}: {mistake.message}" for mistake in error.errors]
    return []


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"tools": ["github.*", "github.issues", "jira.search"]},
        {"tools": [DEFINED]},
        {"mounts": ["dataset"]},
    ],
)
def test_submission_within_the_keys_limits_is_accepted(changed: dict[str, Any]) -> None:
    assert refused(**changed) == []


@pytest.mark.parametrize(
    ("changed", "field", "bound"),
    [
        ({"environment": "node"}, "environment", "python"),
        ({"isolation": "standard"}, "isolation", "hardened"),
        ({"mounts": ["other"]}, "mounts", "dataset"),
        ({"tools": ["*"]}, "tools", "github.*, jira.search"),
        ({"tools": ["jira.*"]}, "tools", "github.*, jira.search"),
        ({"tools": ["jira.delete"]}, "tools", "github.*, jira.search"),
        ({"tools": ["githubx.issues"]}, "tools", "github.*, jira.search"),
    ],
)
def test_submission_beyond_the_keys_limits_is_refused_with_the_bound(
    changed: dict[str, Any], field: str, bound: str
) -> None:
    [mistake] = refused(**changed)
    assert mistake.startswith(f"{field}: ")
    assert mistake.endswith(f"is not among what this key may use: {bound}")
    assert refused(Narrowing(), **changed) == [], "the control: a key without limits"


def test_every_mistake_is_named() -> None:
    assert len(refused(environment="node", isolation="standard", tools=["x.y", "x.z"], mounts=["m"])) == 5


def test_direct_calls_lists_and_searches_have_the_same_bounds() -> None:
    check_tool(LIMITS, "github", "issues.list")
    check_tool(Narrowing(), "other", "tool")
    with pytest.raises(KeyNarrowed, match=r"'other.tool' is not among what this key may use: github.\*, jira.search"):
        check_tool(LIMITS, "other", "tool")
    assert (grants_of(LIMITS), grants_of(Narrowing())) == (("github.*", "jira.search"), ("*",))
    assert [may_use(LIMITS, name) for name in ("python", "node")] == [True, False]
    assert may_use(Narrowing(), "node")
