"""Security reporting of refusals: wrong keys, requests for other tenants' ids, and floods become security events.

Events are written after the answer is sent, so that its time discloses nothing about the cause of the refusal.
"""

from __future__ import annotations

from fastapi import Request
from starlette.background import BackgroundTask

from orchestrator.api.dependencies import parts_of
from orchestrator.api.door.addresses import network
from orchestrator.api.door.floods import FloodSource
from orchestrator.errors import (
    Forbidden,
    LoginRefused,
    MayflyError,
    NotFound,
    TokenReused,
    TooManyAnswers,
    TooManyStreams,
    TooManyUploads,
    Unauthenticated,
)
from orchestrator.identity import Principal
from orchestrator.identity.authorization import ROUTES
from orchestrator.service.security_reports import AUDITED


def reporting_task(request: Request, error: MayflyError) -> BackgroundTask | None:
    """The background task for a refusal, run after its answer."""
    if isinstance(error, LoginRefused):
        about = error.user, error.failed, error.pause_seconds
        return BackgroundTask(parts_of(request).reports.login_refused, address(request), *about)
    if isinstance(error, TokenReused):
        return BackgroundTask(parts_of(request).reports.token_reused, error.user, address(request))
    if isinstance(error, Unauthenticated) and error.wrong_key:
        return BackgroundTask(parts_of(request).reports.auth_failure, address(request))
    if isinstance(error, NotFound) and error.owner is not None:
        named, asked = request.path_params["id"], action_of(request) or "execution.read"
        report = parts_of(request).reports.cross_tenant_access
        return BackgroundTask(report, request.state.principal, error.owner, named, asked)
    if isinstance(error, AUDITED) and (action := action_of(request)) is not None:
        owner = error.owner if isinstance(error, Forbidden) else None
        return BackgroundTask(parts_of(request).reports.forbidden, request.state.principal, action, error.code, owner)
    if isinstance(error, TooManyUploads | TooManyAnswers | TooManyStreams):
        return BackgroundTask(parts_of(request).floods.note_soon, source_of(request), error.code)
    return None


def action_of(request: Request) -> str | None:
    """The action of a request's route."""
    route = request.scope.get("route")
    return None if route is None else ROUTES.get(f"{request.method} {route.path_format}")


def source_of(request: Request) -> FloodSource:
    """The source under which refusals are counted: the key, or without a valid key the address."""
    caller: Principal | None = getattr(request.state, "principal", None)
    return FloodSource(address(request)) if caller is None else FloodSource(None, caller.name, caller.tenant)


def address(request: Request) -> str:
    """The client's address, or its IPv6 network, which usually has a single owner."""
    return network(request.client.host if request.client else "")
