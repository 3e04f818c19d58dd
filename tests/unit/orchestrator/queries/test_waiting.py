"""The reason why a queued execution waits, for each cause."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.environments import DEFAULT_LIMITS
from orchestrator.models import Execution
from orchestrator.models.fleet import EnvironmentOffer, WorkerStatus
from orchestrator.queries.waiting import Situation, explained

QUEUED = Execution(
    id="e", state="queued", environment="python", isolation="standard", limits=DEFAULT_LIMITS, labels={}, tenant="t",
    created_at=datetime(2026, 11, 30, tzinfo=UTC),
)  # fmt: skip


def worker(**changes: Any) -> WorkerStatus:
    whole: dict[str, Any] = {
        "id": "w", "host": "h", "driver": "docker", "runtimes": {"standard": "runc"},
        "environments": (EnvironmentOffer(name="python", image="i", size_bytes=1),), "slots": 2, "busy": 2, "pool": {},
        "executions": (), "engine": "docker 20",
    }  # fmt: skip
    return WorkerStatus(**{**whole, **changes})


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (Situation(), "No worker is alive."),
        (Situation([worker(runtimes={"hardened": "runsc"})]), "No worker offers the isolation 'standard'."),
        (Situation([worker(environments=())]), "No worker has the image of 'python'."),
        (Situation([worker(draining=True)]), "Its workers take no executions now"),
        (Situation([worker(trouble=("disk full",))]), "Its workers take no executions now"),
        (Situation([worker(engine="unavailable")]), "Its workers take no executions now"),
        (Situation([worker(), worker(draining=True)]), "All 2 slots of its workers are busy."),
        (Situation([worker(), worker()], ahead=3), "All 4 slots of its workers are busy, and 3 executions of its"),
        (Situation([worker(busy=1)]), "A slot is free"),
        (Situation([worker()], held=True), "Its API key has as many executions on workers as its quota"),
        (Situation([worker(busy=0)], retry_seconds=4.4), "A fault of the platform spoilt its last attempt; the next"),
        (Situation(held=True, switched_off="The operator has switched off 'x'."), "The operator has switched off 'x'."),
    ],
)
def test_reason_names_the_cause(situation: Situation, expected: str) -> None:
    assert explained(QUEUED, situation).startswith(expected)
