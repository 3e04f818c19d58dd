"""The status that workers report, and the features that operators switch off."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from orchestrator.models import Frozen

SUBMISSIONS, MCP, TOOLS, WARM_POOL, FETCH_CACHE = "submissions", "mcp", "tools", "warm-pool", "fetch-cache"
# Levels of features (:mod:`orchestrator.features`): of version 0.1.0, whose workers report none, and the highest that
# is believed.
FIRST_LEVEL, MOST_LEVELS = 1, 100
PLAIN = (SUBMISSIONS, MCP, TOOLS, WARM_POOL, FETCH_CACHE)
ENVIRONMENT, ISOLATION = "environment:", "isolation:"  # prefixes of the features of one environment or isolation tier


class EnvironmentOffer(Frozen):
    """An environment that a worker offers."""

    name: str
    image: str
    size_bytes: int


class WorkerStatus(Frozen):
    """One heartbeat. ``heartbeat_age_seconds``, ``version`` and ``level`` are filled in by the reader.

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
    lacking: tuple[str, ...] = Field(
        (),
        description="Parts of its expected hardening that its process lacks.",
        exclude_if=lambda lacking: not lacking,  # so that older APIs read the status
    )
    heartbeat_age_seconds: float = 0.0
    version: str = Field(
        "",
        description="The worker's version of Mayfly; absent for versions before 0.2.",
        exclude_if=lambda version: not version,
    )
    level: int = Field(
        FIRST_LEVEL,
        ge=FIRST_LEVEL,
        le=MOST_LEVELS,
        description="The worker has the features up to this level; absent for the first.",
        exclude_if=lambda level: level == FIRST_LEVEL,
    )


class SwitchChange(Frozen):
    """The state to give to a switch."""

    enabled: bool = Field(description="Whether the feature is on.")
    reason: str | None = Field(
        None, min_length=1, max_length=500, description="Why it is off; refused requests show it to their callers."
    )


class Switch(Frozen):
    """One feature and its state. ``changed_at`` and ``changed_by`` are of the last change to off."""

    feature: str = Field(
        description="`submissions`, `mcp`, `tools`, `warm-pool`, `fetch-cache`, `environment:…` or `isolation:…`."
    )
    enabled: bool = True
    reason: str | None = None
    changed_at: datetime | None = None
    changed_by: str | None = None
