"""Names that tenants, keys and service accounts may use."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import NotAllowed
from orchestrator.models.submission import Submission
from orchestrator.models.tenants.allowed import Allowed, Owner
from orchestrator.policy.allowed import check_submission, check_tool, may_use
from orchestrator.tools.grants import covers

LIMITS = Allowed(
    environments=("python",), isolation=("hardened",), tools=("github.*", "jira.search"), mounts=("dataset",)
)
ALLOWED: dict[str, Any] = {"environment": "python", "code": "1", "isolation": "hardened"}
DEFINED = {"name": "own", "inputSchema": {"type": "object"}}


def refused(limits: Allowed = LIMITS, **changed: Any) -> list[str]:
    submission = Submission.model_validate({**ALLOWED, **changed})
    try:
        check_submission([("key", limits)], submission, submission.environment)
    except NotAllowed as error:
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
def test_name_within_the_bounds_is_accepted(changed: dict[str, Any]) -> None:
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
def test_name_beyond_the_bounds_is_refused_with_the_bound(changed: dict[str, Any], field: str, bound: str) -> None:
    [mistake] = refused(**changed)
    assert mistake.startswith(f"{field}: ")
    assert mistake.endswith(f"is not among the names that this key may use: {bound}")
    assert refused(Allowed(), **changed) == [], "the control: a key without limits"


def test_every_mistake_is_named() -> None:
    assert len(refused(environment="node", isolation="standard", tools=["x.y", "x.z"], mounts=["m"])) == 5


@pytest.mark.parametrize(
    ("owner", "code"),
    [
        ("tenant", "not_allowed_by_tenant"),
        ("key", "not_allowed_by_key"),
        ("service account", "not_allowed_by_key"),
    ],
)
def test_every_owner_bounds_submissions_calls_and_lists(owner: Owner, code: str) -> None:
    bounds: list[tuple[Owner, Allowed]] = [("tenant", Allowed()), (owner, LIMITS), ("key", Allowed())]
    check_tool(bounds, "github", "issues.list")
    with pytest.raises(
        NotAllowed, match=rf"'other.tool' is not among the names that this {owner} may use: github.\*"
    ) as caught:
        check_tool(bounds, "other", "tool")
    assert (caught.value.code, caught.value.of, caught.value.quota) == (code, owner, "tool")
    submission = Submission.model_validate({**ALLOWED, "isolation": "standard"})
    with pytest.raises(NotAllowed):
        check_submission(bounds, submission, "python")
    assert [may_use(bounds, name) for name in ("python", "node")] == [True, False]


def test_empty_lists_allow_nothing() -> None:
    nothing = Allowed(environments=(), isolation=(), tools=(), mounts=())
    assert len(refused(nothing, tools=["a.b"], mounts=["m"])) == 4
    assert refused(nothing)[0].endswith("may use: none")


@pytest.mark.parametrize(
    ("pattern", "asked", "expected"),
    [("*", "a.*", True), ("a.*", "a.b", True), ("a.*", "ab.c", False), ("a.b", "a.*", False), ("a.*", "*", False)],
)
def test_pattern_covers_all_that_is_asked(pattern: str, asked: str, expected: bool) -> None:
    assert covers(pattern, asked) == expected
    assert refused(Allowed(tools=(pattern,)), isolation="standard", tools=[asked]) == [] or not expected
