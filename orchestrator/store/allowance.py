"""The quotas of one submission, as arguments of the script that accepts submissions, and the script's refusals.

The script refuses features that are switched off, too.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from pydantic import ValidationError

from orchestrator.errors import FeatureOff, QuotaExceeded
from orchestrator.models.fleet import Switch
from orchestrator.models.tenants.allowed import Allowed, Bounds, Owner
from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas
from orchestrator.store.accounting import microseconds
from orchestrator.store.malformed import report_malformed

Q = TypeVar("Q", bound=KeyQuotas)


class StaleQuotas(Exception):
    """The quotas changed after they were read; the script accepted nothing. ``current``: the stored quotas of both."""

    def __init__(self, current: tuple[bytes, bytes]) -> None:
        self.current = current
        super().__init__()


class Known(NamedTuple, Generic[Q]):
    """The effective quotas, with defaults, and their version: empty without own quotas."""

    version: str
    quotas: Q


class Allowance(NamedTuple):
    """The quotas of a submission: of the tenant, and of the API key if there is one."""

    tenant: Known[TenantQuotas]
    key: Known[KeyQuotas]

    def named(self) -> tuple[tuple[Owner, KeyQuotas], ...]:
        """The quotas of both, each with its owner's kind."""
        return ("tenant", self.tenant.quotas), ("key", self.key.quotas)

    def bounds(self, account: Allowed | None) -> Bounds:
        """The permitted names: those of both, and of the service account, if any."""
        return (*self.named(), *((("service account", account),) if account else ()))

    def arguments(self) -> list[str | float]:
        """The script's arguments, from the tenant's weight on."""
        numbers = [self.tenant.quotas.weight, *_numbers(self.tenant.quotas), *_numbers(self.key.quotas)]
        return ["" if number is None else number for number in numbers]


UNBOUNDED = Allowance(Known("", TenantQuotas()), Known("", KeyQuotas()))


def quota_exceeded(of: bytes, quota: bytes, bound: bytes, used: bytes, wait: bytes | int) -> QuotaExceeded:
    """The error for the script's refusal."""
    name = quota.decode()
    unit = 1e6 if name == "cpu_seconds_per_day" else 1.0
    return QuotaExceeded(name, of.decode(), float(bound) / unit, float(used) / unit, max(1, int(wait)))


def feature_off(switch: Switch) -> FeatureOff:
    """The error for a request of a feature that is off."""
    reason = f": {switch.reason}" if switch.reason else "."
    return FeatureOff(f"The operator has switched off {switch.feature!r}{reason}")


def read_switch(name: bytes, value: bytes) -> Switch:
    """A stored switch. A malformed value, which only another writer makes, is off, too."""
    feature, enabled = name.decode(errors="replace"), False
    try:
        return Switch.model_validate_json(value).model_copy(update={"feature": feature, "enabled": enabled})
    except ValidationError as error:
        report_malformed("switch", str(error))
        return Switch(feature=feature, enabled=enabled)


def _numbers(quotas: KeyQuotas) -> tuple[float | None, ...]:
    cpu = quotas.cpu_seconds_per_day
    return (
        quotas.running,
        quotas.stored_bytes,
        quotas.queued,
        quotas.executions_per_day,
        None if cpu is None else microseconds(cpu),
        quotas.submissions_per_second,
    )
