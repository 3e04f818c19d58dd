"""Security events of the front door: wrong keys, other tenants' ids, floods of refused requests.

The first two are written only at 1, 10, 100 … within a minute, so that no flood of requests fills the log. Neither the
key that was sent nor anything made from it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog

from orchestrator.errors import StoreUnavailable
from orchestrator.identity import Principal
from orchestrator.models import SecurityKind
from orchestrator.models.security import ForeignExecution, RefusedRequests, SecurityEvent, WrongKeys
from orchestrator.store.security import SecurityLog, milestone

ANYONE = "many different callers"
log = structlog.get_logger()


class SecurityReports:
    """Writes such events. Thread-safe. While Redis is away there is a line in the log instead, and no error."""

    def __init__(self, security: SecurityLog) -> None:
        self._security = security

    def auth_failure(self, address: str) -> None:
        """Count a wrong or revoked key, and write an event at milestones."""
        with _logged("auth_failure", address):
            subject, count = self._security.count("auth_failure", address)
            if milestone(count):
                detail = (
                    f"Wrong or revoked API keys came from {subject or ANYONE}, {count} within a minute. "
                    "Unless a user mistyped a key, block the address."
                )
                event = SecurityEvent("auth_failure", detail, evidence=WrongKeys(subject or None), count=count)
                self._security.add(event, tenant=None, source="api")

    def cross_tenant_access(self, caller: Principal, owner: str, id: str) -> None:
        """Count a key's request for another tenant's execution, and write an event at milestones.

        Neither tenant sees the event: the caller would learn that the id exists, the owner would learn the caller.
        """
        with _logged("cross_tenant_access", caller, owner, id):
            subject, count = self._security.count("cross_tenant_access", caller.key_id)
            if milestone(count):
                detail = (
                    f"Key {caller.key_id} of tenant {caller.tenant} asked for what tenant {owner} has and was told "
                    f"there is none: {count} times within a minute{'' if subject else ' together with other keys'}. "
                    "Find out how it learned the id."
                )
                evidence = ForeignExecution(key=caller.key_id, asked_by=caller.tenant, owned_by=owner)
                event = SecurityEvent("cross_tenant_access", detail, evidence=evidence, count=count)
                self._security.add(event, tenant=None, source="api", execution=id)

    def request_flood(
        self, refusals: Mapping[str, int], *, address: str | None, key: str | None, tenant: str | None
    ) -> None:
        """Write of one caller's refused requests, counted by code; of many callers without ``address`` and ``key``."""
        named = {name: value for name, value in (("address", address), ("key", key)) if value is not None}
        where = " of ".join(f"{name} {value}" for name, value in named.items()) or ANYONE
        total, codes = sum(refusals.values()), ", ".join(f"{code} {n}" for code, n in sorted(refusals.items()))
        detail = (
            f"{total} requests or connections of {where} were refused or cut off within a minute: {codes}. "
            "Unless the source is a broken client of yours, block it."
        )
        with _logged("request_flood", named):
            evidence = RefusedRequests(dict(refusals), address=address, key=key)
            event = SecurityEvent("request_flood", detail, evidence=evidence, count=total)
            self._security.add(event, tenant=tenant, source="api")


@contextmanager
def _logged(kind: SecurityKind, *about: object) -> Iterator[None]:
    """Log what Redis, which is away, does not take: the caller has had its answer."""
    try:
        yield
    except StoreUnavailable:
        log.warning("security.event", kind=kind, about=[str(part) for part in about], stored=False)
