"""Checks of a submission against the quotas of tenant and key: pure, before anything is written or counted."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.environments import Environment, Environments
from orchestrator.errors import LimitAboveQuota, Mistake
from orchestrator.models.submission import Submission
from orchestrator.models.tenants.allowed import Bounds, Owner
from orchestrator.models.tenants.quotas import KeyQuotas
from orchestrator.policy.allowed import check_submission

Quotas = Sequence[tuple[Owner, KeyQuotas]]


def bounded(submission: Submission, environments: Environments, quotas: Quotas, bounds: Bounds) -> Submission:
    """The submission, with omitted limits lowered to the quotas; ``quotas`` by their owner.

    Raises :class:`NotAllowed` for names outside the bounds, and :class:`LimitAboveQuota`.
    """
    environment = environments.resolve(submission.environment)
    if environment is None:
        return submission  # the unknown environment is refused later
    check_submission(bounds, submission, environment.name)
    return _limited(submission, environment, quotas)


def _limited(submission: Submission, environment: Environment, quotas: Quotas) -> Submission:
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
