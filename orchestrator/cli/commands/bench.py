"""``mayfly bench``: the time an installation takes to run the smallest program, measured at the client."""

from __future__ import annotations

import statistics
import time
from typing import Annotated

import typer

from mayfly import Client, Execution
from orchestrator.cli.connection import connect
from orchestrator.cli.console import CommandFailed, Json, print_json, print_table
from orchestrator.cli.verdict import MAYFLYS_FAULT

PHASES = ("queue_seconds", "start_seconds", "run_seconds", "collect_seconds")
WAIT_SECONDS = 60


def bench(
    runs: Annotated[int, typer.Option("--runs", min=1, max=10_000, help="Executions, one after another.")] = 50,
    env: Annotated[str, typer.Option("--env", metavar="NAME", help="Environment of the sample program.")] = "python",
    code: Annotated[str, typer.Option("--code", help="The program.")] = "print(1)",
    json: Json = False,
) -> None:
    """Run a small program repeatedly; print its times in milliseconds, by phase."""
    with connect() as client:
        measured = [_once(client, env, code) for _ in range(runs)]
    rows = {"total_seconds": [seconds for seconds, _ in measured]}
    rows |= {phase: [getattr(execution.timings, phase) for _, execution in measured] for phase in PHASES}
    figures = {name: {"p50": statistics.median(values), "p99": _p99(values)} for name, values in rows.items()}
    warm = sum(execution.start == "warm" for _, execution in measured)
    if json:
        return print_json({"runs": runs, "warm": warm, **figures})
    milliseconds = {name: [f"{1000 * value:.1f}" for value in row.values()] for name, row in figures.items()}
    print_table(
        ("PHASE", "P50 MS", "P99 MS"),
        [(name.removesuffix("_seconds"), *row) for name, row in milliseconds.items()] + [("warm starts", warm, runs)],
    )
    return None


def _once(client: Client, env: str, code: str) -> tuple[float, Execution]:
    began = time.monotonic()
    execution = client.submit(code, environment=env, wait_seconds=WAIT_SECONDS)
    seconds = time.monotonic() - began
    if not execution.is_finished or execution.timings is None:
        raise CommandFailed(
            f"Execution {execution.id} did not run: {execution.state} {execution.reason}", MAYFLYS_FAULT
        )
    return seconds, execution


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]
