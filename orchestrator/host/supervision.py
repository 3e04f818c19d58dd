"""The report of the supervisor of `mayfly up`: a file in the state directory, for the API and the command."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter

from orchestrator.models import Frozen

FILE = "supervisor.json"


class Supervised(Frozen):
    """One process, and its ends since `mayfly up`."""

    name: str
    state: Literal["running", "waiting", "given up"] = Field(description="`waiting`: it ended, and will be started.")
    restarts: int = Field(0, description="Starts after an end.")
    reason: str | None = Field(None, description="How it ended last, or why it could not be started.")
    ended_at: datetime | None = None


_LIST = TypeAdapter(tuple[Supervised, ...])


def write_report(directory: Path, report: Iterable[Supervised]) -> None:
    """Replace the report."""
    partial = directory / f"{FILE}.partial"
    partial.write_bytes(_LIST.dump_json(tuple(report)))
    partial.replace(directory / FILE)


def read_report(directory: Path) -> tuple[Supervised, ...]:
    """The last report; empty without a supervisor."""
    try:
        return _LIST.validate_json((directory / FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return ()


def remarks(report: Iterable[Supervised]) -> str:
    """The processes that have ended, in a line for operators; empty without one."""
    return "; ".join(_remark(one) for one in report if one.ended_at is not None)


def _remark(one: Supervised) -> str:
    times = f"{one.restarts} restart{'s' * (one.restarts != 1)}"
    return f"{one.name} {one.state}, {times}, ended last at {one.ended_at:%Y-%m-%dT%H:%M:%SZ}: {one.reason}"
