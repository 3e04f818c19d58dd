"""The names that quotas permit in a submission, without a store."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.environments import load_environments
from orchestrator.errors import LimitAboveQuota, NotAllowed
from orchestrator.models import RequestedLimits
from orchestrator.models.submission import Submission
from orchestrator.models.tenants.allowed import Owner
from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas, overlaid
from orchestrator.policy.quotas import bounded
from orchestrator.settings import PACKAGE_ROOT

ENVIRONMENTS = load_environments([PACKAGE_ROOT / "sandbox_image" / "environments"])


def submission(**fields: Any) -> Submission:
    return Submission.model_validate({"environment": "python", "code": "1", **fields})


def fitted(quotas: KeyQuotas, key: KeyQuotas | None = None, **fields: Any) -> Submission:
    own: list[tuple[Owner, KeyQuotas]] = [("tenant", quotas), ("key", key or KeyQuotas())]
    return bounded(submission(**fields), ENVIRONMENTS, own, own)


def test_mounts_are_those_that_the_quotas_name() -> None:
    assert fitted(KeyQuotas(mounts=("a",)), mounts=["a"]).mounts == ("a",)
    with pytest.raises(NotAllowed, match=r"this tenant may use: a$"):
        fitted(KeyQuotas(mounts=("a",)), mounts=["a", "b"])


def test_environment_is_compared_by_its_name_not_an_alias() -> None:
    alias = ENVIRONMENTS["python"].aliases[0]
    assert fitted(KeyQuotas(environments=("python",)), environment=alias).environment == alias
    with pytest.raises(NotAllowed) as caught:
        fitted(KeyQuotas(), KeyQuotas(environments=("bash",)), environment=alias)
    assert (caught.value.quota, caught.value.of) == ("environment", "key")


def test_smaller_of_both_limits_holds() -> None:
    tenant = KeyQuotas(limits=RequestedLimits(wall_seconds=3.0, processes=10**6))
    key = KeyQuotas(limits=RequestedLimits(wall_seconds=2.0))
    assert fitted(tenant, key).limits == RequestedLimits(wall_seconds=2.0)
    with pytest.raises(LimitAboveQuota) as caught:
        fitted(tenant, key, limits={"wall_seconds": 2.5})
    assert (caught.value.of, caught.value.bound) == ("key", 2.0)
    assert fitted(tenant, key, limits={"wall_seconds": 1.0}).limits.wall_seconds == 1.0


def test_own_quotas_overlay_defaults_null_included() -> None:
    base = TenantQuotas(queued=1, running=2, limits=RequestedLimits(wall_seconds=1.0))
    own = TenantQuotas.model_validate({"queued": None, "weight": 5})
    whole = TenantQuotas.model_validate(overlaid(base, own))
    assert whole == TenantQuotas(running=2, weight=5, limits=RequestedLimits(wall_seconds=1.0))
