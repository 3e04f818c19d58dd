"""Security events of the front door: wrong keys, other tenants' ids, floods of refused requests.

The first two are written only at 1, 10, 100 … within a minute, so that a flood of requests does not fill the log. The
sent key and its digest are not stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog

from orchestrator.audit.log import AuditLog
from orchestrator.errors import Forbidden, NotAllowed, StoreUnavailable
from orchestrator.identity import Principal
from orchestrator.models.security import ForeignExecution, RefusedRequests, SecurityEvent, WrongKeys
from orchestrator.store.security import SecurityLog, milestone

# Refusals that go into the audit log, for requests over REST and MCP alike.
AUDITED = (Forbidden, NotAllowed)
ANYONE = "many different callers"
log = structlog.get_logger()


class SecurityReports:
    """Writes such events. Thread-safe. While Redis is unavailable, an event is only logged, without an error."""

    def __init__(self, security: SecurityLog, audit: AuditLog) -> None:
        self._security, self._audit = security, audit

    def auth_failure(self, address: str) -> None:
        """Count a wrong or revoked key, and write an event at milestones."""
        with _logged("auth_failure", address):
            what = "Wrong or revoked API keys", "key"
            self._refused_credential("auth_failure", address, what, "authenticate", None, "unauthenticated")

    def login_refused(self, address: str, user: str | None, failed: int, pause_seconds: float) -> None:
        """Count a failed log-in, and write events at milestones and when pauses begin."""
        with _logged("auth_failure", address):
            what, resource = ("Failed log-ins of own users", "password"), user and f"user/{user}"
            self._refused_credential("login_refused", address, what, "session.create", resource, "login_refused")
            if pause_seconds:
                self._account_locked(address, user, failed, pause_seconds)

    def _refused_credential(
        self, counter: str, address: str, what: tuple[str, str], action: str, resource: str | None, code: str
    ) -> None:
        """Count a wrong credential, and at milestones write an ``auth_failure`` and an entry of the audit log.

        ``what``: the credentials in the words of the event, and the noun for one.
        """
        subject, count = self._security.count(counter, address)
        if milestone(count):
            detail = (
                f"{what[0]} came from {subject or ANYONE}, {count} within a minute. "
                f"Unless a user mistyped a {what[1]}, block the address."
            )
            event = SecurityEvent("auth_failure", detail, evidence=WrongKeys(subject or None), count=count)
            self._security.add(event, tenant=None, source="api")
            entry = self._audit.writer.entry(None, action, resource, outcome="refused", code=code, count=count)
            self._audit.append(entry)

    def _account_locked(self, address: str, user: str | None, failed: int, pause_seconds: float) -> None:
        """Report that log-ins from this address are slowed down; other addresses of the user are not delayed."""
        subject, count = self._security.count("account_locked", address)
        if milestone(count):
            account = f"user {user}" if user else "an unknown name"
            detail = (
                f"{failed} log-ins of {account} from {subject or ANYONE} failed; a pause of {pause_seconds:g} s began. "
                "Other addresses are not delayed."
            )
            event = SecurityEvent("account_locked", detail, evidence=WrongKeys(subject or None), count=count)
            self._security.add(event, tenant=None, source="api")

    def token_reused(self, user: str, address: str) -> None:
        """Report the second use of a refresh token; the audit log already has its use."""
        with _logged("auth_failure", user, address):
            detail = (
                f"A refresh token of user {user} was used a second time, from {address}: its session was ended. "
                "Find out who else has the user's files, and have the user change its password."
            )
            event = SecurityEvent("auth_failure", detail, evidence=WrongKeys(address), count=1)
            self._security.add(event, tenant=None, source="api")

    def forbidden(self, caller: Principal, action: str, code: str, owner: str | None = None) -> None:
        """Count a principal's refused action, and append to the audit log at milestones.

        ``owner``: the other tenant that the request named, of which there is an event, too.
        """
        with _logged("forbidden", caller, action):
            subject, count = self._security.count("forbidden", f"{caller.id} {action}")
            if milestone(count):
                principal = caller if subject else None
                self._audit.append(
                    self._audit.writer.entry(principal, action, None, outcome="refused", code=code, count=count)
                )
            if owner is not None:
                self._foreign_name("foreign_tenant_named", caller, "resources", owner, 403)

    def cross_tenant_access(self, caller: Principal, owner: str, id: str, action: str = "execution.read") -> None:
        """Count a key's request for another tenant's execution or API key, and write an event at milestones.

        Neither tenant sees the event: it would reveal the id's existence to the caller, and the caller to the owner.
        """
        with _logged("cross_tenant_access", caller, owner, id):
            is_key = action.startswith("key.")
            noun, resource = ("an API key", f"api-key/{id}") if is_key else ("an execution", f"execution/{id}")
            found = self._foreign_name("cross_tenant_access", caller, noun, owner, 404, None if is_key else id)
            if found is not None:
                subject, count = found
                entry = self._audit.writer.entry(
                    caller if subject else None,
                    action,
                    resource,
                    owner=owner,
                    outcome="refused",
                    code="not_found",
                    count=count,
                )
                self._audit.append(entry)

    def _foreign_name(
        self, counter: str, caller: Principal, noun: str, owner: str, status: int, execution: str | None = None
    ) -> tuple[str, int] | None:
        """Count a request that names another tenant or its resource; at milestones write an event, and give back the
        count and its subject.
        """
        subject, count = self._security.count(counter, caller.name)
        if not milestone(count):
            return None
        detail = (
            f"Key {caller.name} of tenant {caller.tenant} asked for {noun} of tenant {owner} and got "
            f"{status}: {count} times within a minute{'' if subject else ' together with other keys'}. "
            "Find out how it learned the name, if there is such a tenant."
        )
        evidence = ForeignExecution(key=caller.name, asked_by=caller.tenant, owned_by=owner)
        event = SecurityEvent("cross_tenant_access", detail, evidence=evidence, count=count)
        self._security.add(event, tenant=None, source="api", execution=execution)
        return subject, count

    def request_flood(
        self, refusals: Mapping[str, int], *, address: str | None, key: str | None, tenant: str | None
    ) -> None:
        """Report one caller's refused requests, by code; of many callers without ``address`` and ``key``."""
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
def _logged(kind: str, *about: object) -> Iterator[None]:
    """Log an event that an unavailable Redis cannot store; the caller already has its answer."""
    try:
        yield
    except StoreUnavailable:
        log.warning("security.event", kind=kind, about=[str(part) for part in about], stored=False)
