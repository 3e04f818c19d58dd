"""Checks of the names in a submission: environments, isolation, tools, mounts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.errors import KeyNarrowed
from orchestrator.identity import Narrowing
from orchestrator.models.submission import Submission
from orchestrator.tools.grants import ALL, allowed


def check_submission(limits: Narrowing, submission: Submission, environment: str) -> None:
    """Raise :class:`KeyNarrowed` with everything that a submission names beyond the limits.

    ``environment`` is the environment's own name. Tools that the client fulfils itself are the client's to grant.
    """
    mistakes = [
        *_outside("environment", [environment], limits.environments),
        *_outside("isolation", [submission.isolation], limits.isolation),
        *_outside("mounts", submission.mounts, limits.mounts),
        *tool_mistakes("tools", (grant for grant in submission.tools if isinstance(grant, str)), limits.tools),
    ]
    if mistakes:
        raise KeyNarrowed(mistakes)


def check_tool(limits: Narrowing, server: str, tool: str) -> None:
    """Raise :class:`KeyNarrowed` for a tool that is called directly, beyond the limits."""
    if mistakes := tool_mistakes("tool", [f"{server}.{tool}"], limits.tools):
        raise KeyNarrowed(mistakes)


def grants_of(limits: Narrowing) -> tuple[str, ...]:
    """The patterns of tools that the principal's programs can be given at most."""
    return limits.tools or (ALL,)


def may_use(limits: Narrowing, environment: str) -> bool:
    """Whether the principal may name an environment."""
    return not limits.environments or environment in limits.environments


def tool_mistakes(field: str, wanted: Iterable[str], bounds: Sequence[str]) -> list[tuple[str, str]]:
    """The patterns that are not within the bounds: ``server.*`` is within ``server.*`` and ``*`` alone."""
    return _outside(
        field, [pattern for pattern in wanted if pattern not in bounds and not allowed(bounds, pattern)], bounds
    )


def _outside(field: str, wanted: Iterable[str], bounds: Sequence[str]) -> list[tuple[str, str]]:
    return [
        (field, f"{name!r} is not among what this key may use: {', '.join(bounds)}")
        for name in wanted
        if bounds and name not in bounds
    ]
