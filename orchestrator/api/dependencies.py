"""Dependencies of routes: the use cases, and the authenticated, rate-limited principal."""

from __future__ import annotations

import inspect
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar

from anyio import to_thread
from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute

from orchestrator.api.door.accepted import AcceptedCredentials
from orchestrator.api.door.floods import Floods
from orchestrator.api.door.in_flight import InFlight
from orchestrator.api.door.uploads import TenantLimiters, Traffic
from orchestrator.errors import Forbidden, Unauthenticated, ValidationFailed
from orchestrator.identity import Principal
from orchestrator.identity.api_keys import token_of
from orchestrator.identity.authorization import ROUTES, authorize
from orchestrator.mcp.door import McpDoor
from orchestrator.queries.results import Results
from orchestrator.service import Service
from orchestrator.service.composition import UseCases
from orchestrator.service.operation import Operation

THREADS_PER_TENANT = 8
LISTS = frozenset({"label"})  # query parameters that may be repeated
WORKER = frozenset({"worker"})  # transfers of a whole host, whose executions were counted when they were submitted
KEY_SECONDS = 5.0  # between two checks of a waiting request's key or token
T = TypeVar("T")


class TenantThreads:
    """Threads for slow or frequent work: a few for each tenant, apart from the common thread pool.

    Inspecting a program takes up to seconds, and a batch has a hundred programs; a follower of an execution reads each
    of its lines. In the common thread pool one tenant's work would delay all other tenants.
    """

    def __init__(self) -> None:
        self._limiters = TenantLimiters(THREADS_PER_TENANT)

    async def run(self, tenant: str, call: Callable[[], T]) -> T:
        """Call in one of the tenant's threads, once a thread is free."""
        return await to_thread.run_sync(call, limiter=self._limiters[tenant])


@dataclass(frozen=True, kw_only=True)
class Parts(UseCases):
    """The use cases, and the bounds of the API's requests."""

    followers: InFlight  # live streams: each costs this process time for every line that a program prints
    traffic: Traffic
    floods: Floods
    mcp_calls: InFlight  # MCP requests, each of which may wait for a minute
    mcp_bytes: InFlight  # of their bodies, which stay in memory
    threads: TenantThreads = field(default_factory=TenantThreads)
    accepted: AcceptedCredentials = field(default_factory=AcceptedCredentials)
    mcp: McpDoor | None = None


class DirectRoute(APIRoute):
    """A route that calls an endpoint itself if the endpoint takes the request alone, and has no dependencies.

    FastAPI solves an endpoint's parameters and dependencies anew for each request, which takes as long as the rest of
    a short request. So the most frequent routes read their headers themselves.
    """

    @property
    def is_direct(self) -> bool:
        """Whether the endpoint takes the request alone, and has no dependencies."""
        return list(inspect.signature(self.endpoint).parameters) == ["request"] and not self.dependant.dependencies

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        if not self.is_direct:
            return super().get_route_handler()
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


def recheck(parts: Parts, caller: Principal, authorization: str | None) -> None:
    """Check the caller of a waiting request again.

    Raises :class:`Unauthenticated` once its key or token is no longer valid, :class:`Forbidden` once its roles have
    changed, and :class:`TenantDisabled`.
    """
    found = _identified(parts, authorization)
    if parts.issuers.names_tenant(found):
        parts.tenants.admit(found, may_create=False)
    if (found.tenant, found.scopes) != (caller.tenant, caller.scopes):
        raise Forbidden("The caller's roles changed while this request waited. The work that it began continues.")


class Rechecks:
    """Checks of a request's key or token while the request waits, at most one check in ``KEY_SECONDS``."""

    def __init__(self, parts: Parts, caller: Principal, authorization: str | None) -> None:
        self._run = partial(parts.threads.run, caller.tenant, partial(recheck, parts, caller, authorization))
        self._checked = time.monotonic()

    async def if_due(self) -> None:
        """Check the key or token, unless it was checked just now. Raises as :func:`recheck` does."""
        if time.monotonic() - self._checked >= KEY_SECONDS:
            await self._run()
            self._checked = time.monotonic()


def parts_of(request: Request) -> Parts:
    """The parts of the application that serves this request."""
    found: Parts = request.app.state.parts
    return found


# Dependencies that never block are asynchronous: FastAPI runs plain functions in a thread, which costs more.
async def parts(request: Request) -> Parts:
    """As :func:`parts_of`, for FastAPI."""
    return parts_of(request)


PartsIn = Annotated[Parts, Depends(parts)]


async def service(parts: PartsIn) -> Service:
    """The use cases that change executions."""
    return parts.service


async def results(parts: PartsIn) -> Results:
    """The queries over executions and their results."""
    return parts.results


async def operation(parts: PartsIn) -> Operation:
    """The use cases of operators."""
    return parts.operation


async def principal(request: Request, parts: PartsIn) -> Principal:
    """The authenticated principal of a request, permitted to call the route for resources of at least one tenant.

    Raises :class:`Unauthenticated`, also for repeated headers, :class:`RateLimited`, :class:`Forbidden`, and
    :class:`ValidationFailed` for a repeated query parameter.
    """
    authorizations, headers = request.headers.getlist("authorization"), request.state.answer_headers
    if len(authorizations) > 1:  # a proxy may have checked another than the first
        raise Unauthenticated("The request has several credentials: send one Authorization header.")
    authorization = authorizations[0] if authorizations else None
    found = None if parts.rate_limiter.counts else parts.api_keys.admin(authorization)
    if found is None:
        if parts.issuers.takes(token := token_of(authorization)):
            await parts.issuers.prepare(token)
        found = await run_in_threadpool(_admitted, request, parts, authorization, headers)
    request.state.principal = found
    parts.accepted.note(found)
    authorize(found, ROUTES[f"{request.method} {request.scope['route'].path_format}"])
    if b"&" in request.scope["query_string"]:
        _refuse_repeated([name for name, _ in request.query_params.multi_items() if name not in LISTS])
    return found


def _refuse_repeated(names: list[str]) -> None:
    """Refuse repeated parameters: parsers differ in the value they use."""
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValidationFailed([(name, "is repeated; send it once") for name in repeated], "repeated_parameter")


def _admitted(request: Request, parts: Parts, authorization: str | None, headers: dict[str, str]) -> Principal:
    found = _identified(parts, authorization)
    request.state.principal = found  # before the refusals below, whose reports name the principal
    if found.scopes != WORKER:
        parts.rate_limiter.take(found, headers)
    if parts.issuers.names_tenant(found):
        parts.tenants.admit(found, found.may_create_tenant)
    return found


def _identified(parts: Parts, authorization: str | None) -> Principal:
    """The principal of a key or token, by one look-up in Redis at most."""
    token = token_of(authorization)
    if parts.issuers.takes(token):
        return parts.issuers.principal(token)
    return parts.api_keys.authenticate(authorization)


ServiceIn = Annotated[Service, Depends(service)]
ResultsIn = Annotated[Results, Depends(results)]
OperationIn = Annotated[Operation, Depends(operation)]
Caller = Annotated[Principal, Depends(principal)]
