"""Routes of the service itself: environments, workers, queues, health, versions, metrics."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from orchestrator.api.dependencies import Caller, OperationIn, ServiceIn
from orchestrator.api.deprecation import DEPRECATED
from orchestrator.api.problems import NotReady, answer
from orchestrator.environments import Environment
from orchestrator.models import Frozen, Limits
from orchestrator.models.fleet import WorkerStatus

router = APIRouter()


class EnvironmentAnswer(Frozen):
    """An environment; ``image`` and ``isolation`` are those that live workers offer."""

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
    """All environments."""

    items: list[EnvironmentAnswer]


class WorkerList(Frozen):
    """All live workers."""

    items: list[WorkerStatus]


@router.get("/api/v1/environments", response_model=EnvironmentList, tags=["environments"])
def environments(service: ServiceIn, operation: OperationIn, caller: Caller) -> EnvironmentList:
    """List the environments of this installation."""
    workers = operation.workers()
    return EnvironmentList(items=[_environment(declared, workers) for declared in service.environments_of(caller)])


@router.get("/api/v1/workers", response_model=WorkerList, tags=["fleet"])
def workers(operation: OperationIn, caller: Caller) -> WorkerList:
    """List the live workers: hosts, slots, warm pools, and the age of the last heartbeat."""
    return WorkerList(items=operation.workers())


@router.post("/api/v1/workers/{id}/drain", status_code=202, tags=["fleet"])
def drain(id: str, operation: OperationIn, caller: Caller) -> dict[str, Any]:
    """Drain a worker: with its next heartbeat it takes no more executions, and removes its warm containers; it finishes
    the executions that it has.
    """
    operation.drain(caller, id)
    return {"id": id, "draining": True}


@router.delete("/api/v1/workers/{id}/drain", status_code=202, tags=["fleet"])
def undrain(id: str, operation: OperationIn, caller: Caller) -> dict[str, Any]:
    """End a worker's drain: with its next heartbeat it takes executions again."""
    operation.drain(caller, id, undo=True)
    return {"id": id, "draining": False}


@router.get("/api/v1/queues", tags=["fleet"])
def queues(operation: OperationIn, caller: Caller) -> dict[str, Any]:
    """Show the depth of each queue, and the numbers of queued and active executions."""
    return {"queues": operation.depths(), **operation.counts()}


@router.get("/api/versions", tags=["service"])
def versions() -> dict[str, Any]:
    """List the versions of this API."""
    deprecated = DEPRECATED.get("/api/v1")
    status, sunset = ("deprecated", deprecated.sunset) if deprecated else ("current", None)
    return {"versions": [{"version": "v1", "status": status, "sunset": sunset}]}


@router.get("/livez", tags=["health"])
@router.get("/healthz", tags=["health"])
def live() -> dict[str, str]:
    """Probe liveness: this API process answers."""
    return {"status": "ok"}


@router.get("/readyz", tags=["health"])
def ready(request: Request, operation: OperationIn) -> JSONResponse:
    """Probe readiness: Redis answers, blobs can be written, and a live worker has a working engine."""
    found = operation.readiness()
    if found.is_ready:
        return JSONResponse({"status": "ok", **found._asdict()})
    return answer(request, NotReady(), extensions=found._asdict())


@router.get("/metrics", tags=["service"], response_class=Response)
def metrics(caller: Caller) -> Response:
    """Export the metrics of this API process, for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


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
