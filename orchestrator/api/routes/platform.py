"""Routes about the service itself: environments, fleet, keys, health, versions, metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from orchestrator.api.bodies import NewKeyIn, body_of
from orchestrator.api.dependencies import Caller, OperationIn, Parts, PartsIn, ServiceIn
from orchestrator.api.problems import NotReady, answer
from orchestrator.api.routes.executions import IdempotencyKey
from orchestrator.environments import Environment
from orchestrator.errors import ValidationFailed
from orchestrator.identity import SCOPES, Principal
from orchestrator.identity.api_keys import ApiKey, NewKey
from orchestrator.identity.api_keys import Request as KeyRequest
from orchestrator.identity.narrowing import may_use
from orchestrator.models import Frozen, Limits
from orchestrator.models.fleet import WorkerStatus

router = APIRouter()


class EnvironmentAnswer(Frozen):
    """An environment as clients see it; ``image`` and ``isolation`` are those of live workers."""

    name: str
    version: str
    description: str
    aliases: tuple[str, ...]
    isolation: tuple[str, ...]
    loopback: Literal["never", "allowed", "always"]
    cells: bool
    default_limits: Limits
    maximal_limits: Limits
    image: str | None
    size_bytes: int | None


class EnvironmentList(Frozen):
    """Every environment."""

    items: list[EnvironmentAnswer]


class WorkerList(Frozen):
    """Every live worker."""

    items: list[WorkerStatus]


class KeyList(Frozen):
    """One page of API keys, oldest first, without secrets."""

    items: list[ApiKey]
    next_cursor: str | None


class CreatedKey(ApiKey):
    """A new key; ``secret`` is shown this once."""

    secret: str


@router.get("/api/v1/environments", response_model=EnvironmentList, tags=["environments"])
def environments(service: ServiceIn, operation: OperationIn, caller: Caller) -> EnvironmentList:
    """The environments of this installation."""
    workers = operation.workers()
    return EnvironmentList(
        items=[
            _environment(declared, workers)
            for declared in service.environments.values()
            if may_use(caller.limits, declared.name)
        ]
    )


@router.get("/api/v1/workers", response_model=WorkerList, tags=["fleet"])
def workers(operation: OperationIn, caller: Caller) -> WorkerList:
    """Hosts, slots, warm pools, and the age of each worker's last heartbeat."""
    return WorkerList(items=operation.workers())


@router.post("/api/v1/workers/{id}/drain", status_code=202, tags=["fleet"])
def drain(id: str, operation: OperationIn, caller: Caller) -> dict[str, Any]:
    """Let a worker finish its executions and take no more."""
    operation.drain(caller, id)
    return {"id": id, "draining": True}


@router.get("/api/v1/queues", tags=["fleet"])
def queues(operation: OperationIn, caller: Caller) -> dict[str, Any]:
    """Depth of each queue, and how many executions are queued and active."""
    return {"queues": operation.depths(), **operation.counts()}


@router.post(
    "/api/v1/api-keys", status_code=201, response_model=CreatedKey, tags=["keys"], openapi_extra=body_of(NewKey)
)
def create_key(caller: Caller, wanted: NewKeyIn, parts: PartsIn, idempotency_key: IdempotencyKey = None) -> CreatedKey:
    """A new API key with some scopes, for a tenant. The same Idempotency-Key gives the same key again."""
    if unknown := [scope for scope in wanted.scopes if scope not in SCOPES]:
        raise ValidationFailed([("scopes", f"{unknown[0]!r} is none of {', '.join(SCOPES)}")], "unknown_scope")
    request = None
    if idempotency_key is not None:
        body = wanted.model_dump_json().encode()
        request = KeyRequest(caller.id, idempotency_key, hashlib.sha256(body).hexdigest())
    key, secret = parts.api_keys.create(wanted, caller.id, request, _audited(parts, caller, "create", wanted.tenant))
    return CreatedKey(**key.model_dump(), secret=secret)


@router.get("/api/v1/api-keys", response_model=KeyList, tags=["keys"])
def list_keys(
    parts: PartsIn,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
) -> KeyList:
    """Every API key but the admin's, with its last use."""
    items, next_cursor = parts.api_keys.page(limit, cursor)
    return KeyList(items=items, next_cursor=next_cursor)


@router.delete("/api/v1/api-keys/{id}", status_code=204, tags=["keys"])
def revoke_key(id: str, parts: PartsIn, caller: Caller) -> Response:
    """A key stops working at once."""
    parts.api_keys.revoke(id, _audited(parts, caller, "revoke", None))
    return Response(status_code=204)


@router.get("/api/versions", tags=["service"])
def versions() -> dict[str, Any]:
    """Versions of this API."""
    return {"versions": [{"version": "v1", "status": "current", "sunset": None}]}


@router.get("/livez", tags=["health"])
@router.get("/healthz", tags=["health"])
def live() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz", tags=["health"])
def ready(request: Request, operation: OperationIn) -> JSONResponse:
    """Redis answers, blobs can be written, and a worker with a working engine is alive."""
    found = operation.readiness()
    if found.is_ready:
        return JSONResponse({"status": "ok", **found._asdict()})
    return answer(request, NotReady(), extensions=found._asdict())


@router.get("/metrics", tags=["service"], response_class=Response)
def metrics(caller: Caller) -> Response:
    """This process's metrics, for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _audited(parts: Parts, caller: Principal, change: str, owner: str | None) -> Callable[[str], str]:
    return lambda key: parts.audit.writer.entry(caller, f"key.{change}", f"api-key/{key}", owner=owner)


def _environment(declared: Environment, workers: list[WorkerStatus]) -> EnvironmentAnswer:
    offers = [(worker, offer) for worker in workers for offer in worker.environments if offer.name == declared.name]
    return EnvironmentAnswer(
        name=declared.name,
        version=declared.version,
        description=declared.description,
        aliases=declared.aliases,
        isolation=tuple(sorted({tier for worker, _ in offers for tier in worker.runtimes})),
        loopback=declared.loopback,
        cells=bool(declared.cell),
        default_limits=declared.defaults,
        maximal_limits=declared.maxima,
        image=offers[0][1].image if offers else None,
        size_bytes=offers[0][1].size_bytes if offers else None,
    )
