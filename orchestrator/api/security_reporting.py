"""What refusals say about attacks: wrong keys, other tenants' ids and floods become security events.

Events are written after the answer went out, so that the caller cannot tell one refusal from another by its time, and
only at 1, 10, 100 … within a minute, so that no flood of requests fills the log. Neither the key that was sent nor
anything made from it is kept.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import structlog
from fastapi import Request
from starlette.background import BackgroundTask

from orchestrator.api.dependencies import parts_of
from orchestrator.api.door.floods import FloodSource
from orchestrator.errors import (
    MayflyError,
    NotFound,
    StoreUnavailable,
    TooManyAnswers,
    TooManyStreams,
    TooManyUploads,
    Unauthenticated,
)
from orchestrator.identity import Principal
from orchestrator.models.security import ForeignExecution, SecurityEvent, WrongKeys
from orchestrator.store.security import SecurityLog, milestone

IPV6_SITE_BITS = 64  # what one customer has at the least; counting single addresses would count nothing
ANYONE = "many different callers"
log = structlog.get_logger()


def reporting_task(request: Request, error: MayflyError) -> BackgroundTask | None:
    """What is to be done about a refusal once it is answered."""
    if isinstance(error, Unauthenticated) and error.wrong_key:
        return BackgroundTask(_write, auth_failure, parts_of(request).service.store.security, address(request))
    if isinstance(error, NotFound) and error.owner is not None:
        security, caller = parts_of(request).service.store.security, request.state.principal
        return BackgroundTask(_write, cross_tenant_access, security, caller, error.owner, request.path_params["id"])
    if isinstance(error, TooManyUploads | TooManyAnswers | TooManyStreams):
        return BackgroundTask(parts_of(request).floods.note_soon, source_of(request), error.code)
    return None


def source_of(request: Request) -> FloodSource:
    """Whose refusals count together: a key's, or without a valid one an address's."""
    caller: Principal | None = getattr(request.state, "principal", None)
    return FloodSource(address(request)) if caller is None else FloodSource(None, caller.key_id, caller.tenant)


def address(request: Request) -> str:
    """Where a request comes from: an address, or the network it is taken to share with others of the same owner."""
    try:
        found = ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:  # a proxy's header can say anything
        return "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.ip_network((found.packed, IPV6_SITE_BITS), strict=False))


def _write(write: Callable[..., None], *about: object) -> None:
    try:
        write(*about)
    except StoreUnavailable:  # the caller has had its answer
        log.warning("security.event", kind=write.__name__, about=[str(part) for part in about[1:]], stored=False)


def auth_failure(security: SecurityLog, address: str) -> None:
    """Count a wrong or revoked key, and write of it at milestones."""
    subject, count = security.count("auth_failure", address)
    if milestone(count):
        detail = (
            f"Wrong or revoked API keys came from {subject or ANYONE}, {count} within a minute. "
            "Unless somebody mistyped one, block the address."
        )
        event = SecurityEvent("auth_failure", detail, evidence=WrongKeys(subject or None), count=count)
        security.add(event, tenant=None, source="api")


def cross_tenant_access(security: SecurityLog, caller: Principal, owner: str, id: str) -> None:
    """Count a key that asked for another tenant's execution, and write of it at milestones.

    Neither tenant is shown this: one would learn that the id exists, the other who has asked for it.
    """
    subject, count = security.count("cross_tenant_access", caller.key_id)
    if milestone(count):
        detail = (
            f"Key {caller.key_id} of tenant {caller.tenant} asked for what tenant {owner} has and was told there is "
            f"none: {count} times within a minute{'' if subject else ' together with other keys'}. "
            "Find out how it learned the id."
        )
        evidence = ForeignExecution(key=caller.key_id, asked_by=caller.tenant, owned_by=owner)
        event = SecurityEvent("cross_tenant_access", detail, evidence=evidence, count=count)
        security.add(event, tenant=None, source="api", execution=id)
