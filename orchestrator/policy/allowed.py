"""Checks of the names in submissions and calls against the bounds of tenant, key and service account. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.errors import NotAllowed
from orchestrator.models.submission import Submission
from orchestrator.models.tenants.allowed import Bounds, Owner
from orchestrator.tools.grants import covers


def check_submission(bounds: Bounds, submission: Submission, environment: str) -> None:
    """Raise :class:`NotAllowed` for a submission beyond the bounds, with every name that the first of them refuses.

    ``environment`` is the environment's own name.
    """
    tools = [grant for grant in submission.tools if isinstance(grant, str)]
    for owner, allowed in bounds:
        mistakes = [
            *_outside(owner, "environment", [environment], allowed.environments),
            *_outside(owner, "isolation", [submission.isolation], allowed.isolation),
            *_outside(owner, "mounts", submission.mounts, allowed.mounts),
            *_outside(owner, "tools", tools, allowed.tools),
        ]
        if mistakes:
            raise NotAllowed(mistakes, owner)


def check_tool(bounds: Bounds, server: str, tool: str) -> None:
    """Raise :class:`NotAllowed` for a direct call of a tool beyond the bounds."""
    for owner, allowed in bounds:
        if mistakes := _outside(owner, "tool", [f"{server}.{tool}"], allowed.tools):
            raise NotAllowed(mistakes, owner)


def may_call(bounds: Bounds, tool: str) -> bool:
    """Whether a tool may be called directly, by its full name."""
    return all(
        allowed.tools is None or any(covers(pattern, tool) for pattern in allowed.tools) for _, allowed in bounds
    )


def may_use(bounds: Bounds, environment: str) -> bool:
    """Whether an environment may be named."""
    return all(allowed.environments is None or environment in allowed.environments for _, allowed in bounds)


def _outside(owner: Owner, field: str, wanted: Iterable[str], allowed: Sequence[str] | None) -> list[tuple[str, str]]:
    if allowed is None:
        return []
    known = ", ".join(allowed) or "none"
    return [
        (field, f"{name!r} is not among the names that this {owner} may use: {known}")
        for name in wanted
        if not any(covers(pattern, name) for pattern in allowed)
    ]
