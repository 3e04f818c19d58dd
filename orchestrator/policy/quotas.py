"""Checks of a submission against the quotas of tenant and key: pure, before anything is written or counted."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.environments import Environment, Environments
from orchestrator.errors import LimitAboveQuota, Mistake, NotInQuota
from orchestrator.models.submission import Submission
from orchestrator.models.tenants.quotas import KeyQuotas
from orchestrator.models.tools import CALLER


def bounded(submission: Submission, environments: Environments, quotas: Sequence[tuple[str, KeyQuotas]]) -> Submission:
    """The submission, with omitted limits lowered to the quotas; ``quotas`` by their owner.

    Raises :class:`NotInQuota` for a forbidden name, and :class:`LimitAboveQuota`.
    """
    environment = environments.resolve(submission.environment)
    for owner, own in quotas:
        if environment is not None:
            _check(owner, "environments", [environment.name], own.environments)
        _check(owner, "isolation", [submission.isolation], own.isolation)
        _check(owner, "mounts", submission.mounts, own.mounts)
    check_tools([t if isinstance(t, str) else f"{CALLER}.{t.name}" for t in submission.tools], quotas)
    return submission if environment is None else _limited(submission, environment, quotas)


def check_tools(names: Sequence[str], quotas: Sequence[tuple[str, KeyQuotas]]) -> None:
    """Check names or patterns of tools. Raises :class:`NotInQuota`."""
    for owner, own in quotas:
        if own.tools is not None:
            _refuse(owner, "tools", [name for name in names if not is_covered(name, own.tools)], own.tools)


def is_covered(name: str, patterns: Sequence[str]) -> bool:
    """Whether patterns of tools allow all that another pattern, or a name, stands for."""
    return any(_covers(pattern, name) for pattern in patterns)


def _limited(submission: Submission, environment: Environment, quotas: Sequence[tuple[str, KeyQuotas]]) -> Submission:
    fitted: dict[str, float] = {}
    for owner, own in quotas:
        mistakes = []
        for name, bound in own.limits:
            if bound is None:
                continue
            asked = getattr(submission.limits, name)
            if asked is not None and asked > bound:
                message = f"is above the bound of {bound:.12g} in the quotas of this {owner}"
                mistakes.append(Mistake(f"limits.{name}", message, bound))
            elif asked is None and min(fitted.get(name, bound), getattr(environment.defaults, name)) >= bound:
                fitted[name] = bound
        if mistakes:
            raise LimitAboveQuota(mistakes, owner)
    if not fitted:
        return submission
    return submission.model_copy(update={"limits": submission.limits.model_copy(update=fitted)})


def _check(owner: str, quota: str, named: Sequence[str], allowed: Sequence[str] | None) -> None:
    if allowed is not None:
        _refuse(owner, quota, [name for name in named if name not in allowed], allowed)


def _refuse(owner: str, quota: str, refused: Sequence[str], allowed: Sequence[str]) -> None:
    if refused:
        known = ", ".join(sorted(allowed)) or "none"
        message = f"The quotas of this {owner} do not allow {refused[0]!r}; allowed {quota} are: {known}."
        raise NotInQuota(message, quota=quota, of=owner)


def _covers(pattern: str, name: str) -> bool:
    """Whether a pattern of tools allows all that another pattern, or a name, stands for."""
    return pattern in ("*", name) or (pattern.endswith(".*") and name.startswith(pattern[:-1]))
