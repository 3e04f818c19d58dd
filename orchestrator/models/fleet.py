"""The status that workers report."""

from __future__ import annotations

from pydantic import Field

from orchestrator.models import Frozen


class EnvironmentOffer(Frozen):
    """An environment that a worker offers."""

    name: str
    image: str
    size_bytes: int


class WorkerStatus(Frozen):
    """One heartbeat. ``heartbeat_age_seconds`` is filled in by the reader.

    ``attribution`` is the source of the kernel's denials: ``audit``, ``kernel log``, or ``reduced`` if the worker can
    read neither and must infer denials.
    """

    id: str
    host: str
    driver: str
    runtimes: dict[str, str]
    environments: tuple[EnvironmentOffer, ...]
    slots: int
    busy: int
    pool: dict[str, int] = Field(description="Idle warm containers, by environment.")
    warm_starts: int = Field(0, description="Sandboxes taken from the warm pool since this worker started.")
    cold_starts: int = Field(0, description="Sandboxes started while their execution waited.")
    executions: tuple[str, ...]
    engine: str
    attribution: str = "reduced"
    draining: bool = False
    weaker: tuple[str, ...] = Field((), description="Findings of broken promises that the operator accepted.")
    trouble: tuple[str, ...] = Field(
        (), description="Reasons why the worker takes no executions for now, or none of an isolation."
    )
    heartbeat_age_seconds: float = 0.0
