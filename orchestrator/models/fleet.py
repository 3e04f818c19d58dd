"""The status that workers report."""

from __future__ import annotations

from pydantic import Field

from orchestrator.models import Frozen


class EnvironmentOffer(Frozen):
    """An environment as one worker has it."""

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
    pool: dict[str, int] = Field(description="Warm containers that wait now, by environment.")
    warm_starts: int = Field(0, description="Sandboxes taken from the warm pool since this worker started.")
    cold_starts: int = Field(0, description="Sandboxes that had to be made while their execution waited.")
    executions: tuple[str, ...]
    engine: str
    attribution: str = "reduced"
    draining: bool = False
    weaker: tuple[str, ...] = Field((), description="Findings of a broken promise that its operator accepted.")
    trouble: tuple[str, ...] = Field(
        (), description="Reasons why it takes no executions, or none of an isolation, for now."
    )
    lacking: tuple[str, ...] = Field((), description="Parts of its expected hardening that its process lacks.")
    heartbeat_age_seconds: float = 0.0
