"""Measures the waits of an innocent tenant while another tenant misbehaves.

The innocent submits one small program after another with a pause between; the other keeps one of the worker's slots
busy with hostile programs all the time, or fills the queue as fast as it can. What is compared is the innocent's p99
with that of the same minutes without the other.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.bench.measure import summary
from tests.bench.systems.mayfly import EXECUTIONS, WAIT_SECONDS, Mayfly
from tests.bench.systems.programs import PRINT
from tests.bench.taken.neighbour import CASES
from tests.harness import ROOT

PAUSE_SECONDS = 0.2


def bad_cases(mayfly: Mayfly, runs: int, jobs: int, report_progress: Callable[[str], None]) -> dict[str, Any]:
    """The innocent's latency, idle and beside each kind of misbehaviour, and the ratios of their p99."""
    innocent, other = tenant(mayfly, "innocent"), tenant(mayfly, "other")
    found: dict[str, Any] = {"worker": mayfly.name, "jobs": jobs}
    report_progress(f"an innocent alone, {mayfly.name}")
    idle = _innocent(mayfly, innocent, runs // 2)
    for case in CASES:
        report_progress(f"an innocent beside: {case}")
        with _neighbour(mayfly, other, case, jobs):
            found[case] = summary(_innocent(mayfly, innocent, runs))
    report_progress("an innocent alone again")
    found["idle"] = summary(idle + _innocent(mayfly, innocent, runs // 2))
    found["figures"] = {f"innocent_{case}": found[case]["p99_ms"] / found["idle"]["p99_ms"] for case in CASES}
    return found


def _innocent(mayfly: Mayfly, token: str, runs: int) -> list[float]:
    mayfly.let_rest(PRINT.environment)
    seconds = []
    with mayfly.wire(token) as wire:
        request = wire.prepared("POST", EXECUTIONS, mayfly.body(PRINT), WAIT_SECONDS)
        for _ in range(runs):
            time.sleep(PAUSE_SECONDS)  # think time: the figure is one of latency, not of throughput
            began = time.monotonic()
            answer = wire.exchange(request)
            seconds.append(time.monotonic() - began)
            if answer["state"] != "succeeded":  # it has waited as long as one may; what it would take is more
                break
    return seconds


@contextmanager
def _neighbour(mayfly: Mayfly, token: str, case: str, jobs: int) -> Iterator[None]:
    """A context in which the other tenant misbehaves."""
    command = [sys.executable, "-m", "tests.bench.taken.neighbour", str(mayfly.stack.port), case, str(jobs)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True) as other:
        assert other.stdin
        other.stdin.write(f"{token}\n")
        other.stdin.flush()
        yield
        assert other.poll() is None, "the neighbour ended before it was told to"
        other.stdin.close()
    assert other.returncode == 0, other.returncode


def tenant(mayfly: Mayfly, name: str, *scopes: str) -> str:
    """A key of a tenant, for executions and what else is named."""
    wanted = {"name": name, "tenant": name, "scopes": ["executions:read", "executions:write", *scopes]}
    with mayfly.wire() as wire:
        return str(wire.post("/api/v1/api-keys", wanted)["secret"])
