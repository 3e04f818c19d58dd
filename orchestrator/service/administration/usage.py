"""The use case of usage: sums of a tenant by day, API key or environment."""

from __future__ import annotations

from datetime import date, timedelta

from orchestrator.errors import ValidationFailed
from orchestrator.identity import Principal
from orchestrator.identity.authorization import authorize
from orchestrator.models.tenants.usage import UsageAmounts, UsageDimension, UsageReport, UsageRow
from orchestrator.service.administration.tenants import OWN
from orchestrator.store import Store
from orchestrator.store.accounting import USAGE, USAGE_DAYS
from orchestrator.store.platform.usage import ENVIRONMENT, KEY, Counted

USUAL_DAYS = 30
EPOCH = date(1970, 1, 1)


class UsageReports:
    """Reports of usage, over one store. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._usages = store.usages

    def read(
        self, principal: Principal, tenant: str, first: date | None, last: date | None, by: UsageDimension
    ) -> UsageReport:
        """The usage of a tenant, ``-`` for the principal's own; by default of the last 30 days.

        Raises :class:`Forbidden` for another tenant without the scope ``admin``, and :class:`ValidationFailed`.
        """
        tenant = tenant_of(principal, "tenant.read", tenant)
        last = last or EPOCH + timedelta(days=self._usages.today())
        first = first or last - timedelta(days=USUAL_DAYS - 1)
        days = range((first - EPOCH).days, (last - EPOCH).days + 1)
        if not days:
            raise ValidationFailed([("to", f"is before `from`, {first}; swap them")], "invalid_range")
        if len(days) > USAGE_DAYS:
            message = f"is more than {USAGE_DAYS} days behind `from`; usage is kept for {USAGE_DAYS} days"
            raise ValidationFailed([("to", message)], "invalid_range")
        kind = ENVIRONMENT if by == "environment" else KEY  # an execution is in one series of each kind
        sums: dict[str, list[int]] = {}
        for counted in self._usages.read(tenant, days):
            if counted.kind == kind:
                _add(sums.setdefault(_name(counted, by), [0] * len(USAGE)), counted.amounts)
        total = [0] * len(USAGE)
        for amounts in sums.values():
            _add(total, amounts)
        items = [UsageRow(name=name, **_shown(sums[name])) for name in sorted(sums)]
        return UsageReport(
            tenant=tenant, first=first, last=last, by=by, items=items, total=UsageAmounts(**_shown(total))
        )


def tenant_of(principal: Principal, action: str, tenant: str) -> str:
    """The name of the requested tenant. Raises :class:`Forbidden` for a tenant that the principal may not name."""
    named = principal.tenant if tenant == OWN else tenant
    authorize(principal, action, named)
    return named


def _name(counted: Counted, by: UsageDimension) -> str:
    return str(EPOCH + timedelta(days=counted.day)) if by == "day" else counted.name


def _add(sums: list[int], amounts: tuple[int, ...] | list[int]) -> None:
    for position, amount in enumerate(amounts):
        sums[position] += amount


def _shown(sums: list[int]) -> dict[str, float]:
    """The amounts by the names of :class:`UsageAmounts`, with seconds for microseconds."""
    named = dict(zip(USAGE, sums, strict=True))
    return {
        name.replace("_microseconds", "_seconds"): amount / 1e6 if name.endswith("_microseconds") else amount
        for name, amount in named.items()
    }
