"""Security events with whatever evidence a test thinks of."""

from __future__ import annotations

from dataclasses import make_dataclass
from typing import Any

from orchestrator.models import SecurityKind
from orchestrator.models.security import Attribution, SecurityEvent


def security_event(
    kind: SecurityKind,
    detail: str = "Blocked.",
    attribution: Attribution | None = None,
    count: int | None = None,
    **evidence: Any,
) -> SecurityEvent:
    """One event; ``evidence`` are the fields that no event has by itself."""
    made: Any = make_dataclass("Evidence", evidence, frozen=True)(**evidence) if evidence else None
    return SecurityEvent(kind, detail, attribution, made, count)
