"""Measures the waits of an innocent tenant while another tenant misbehaves.

The innocent submits one small program after another with a pause between; the other keeps one of the worker's slots
busy with hostile programs all the time, or fills the queue as fast as it can. The innocent's p99 is compared with that
of the same round without the other: before all cases and after them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from tests.bench.measure import percentile, summary
from tests.bench.systems.mayfly import EXECUTIONS, WAIT_SECONDS, Mayfly
from tests.bench.systems.programs import PRINT
from tests.bench.taken.neighbour import CASES
from tests.harness import ROOT

PAUSE_SECONDS = 0.1
ROUNDS = 3
IDLE = "idle"
Round = dict[str, list[float]]  # seconds, by case


def bad_cases(mayfly: Mayfly, runs: int, jobs: int, report_progress: Callable[[str], None]) -> dict[str, Any]:
    """The innocent's latency, idle and beside each kind of misbehaviour, in rounds of ``runs`` executions of each."""
    innocent, other = tenant(mayfly, "innocent"), tenant(mayfly, "other")
    rounds = []
    for number in range(1, ROUNDS + 1):
        report_progress(f"an innocent alone, {mayfly.name}, round {number} of {ROUNDS}")
        seconds: Round = {IDLE: _innocent(mayfly, innocent, runs // 2)}
        for case in CASES:
            report_progress(f"an innocent beside: {case}")
            with _neighbour(mayfly, other, case, jobs):
                seconds[case] = _innocent(mayfly, innocent, runs)
        report_progress("an innocent alone again")
        seconds[IDLE] += _innocent(mayfly, innocent, runs - runs // 2)
        rounds.append(seconds)
    together = {case: summary(list(chain.from_iterable(one[case] for one in rounds))) for case in (*CASES, IDLE)}
    return {"worker": mayfly.name, "jobs": jobs, "rounds": ROUNDS, **together, "figures": figures(rounds)}


def figures(rounds: Sequence[Round]) -> dict[str, float]:
    """For each case the median of the rounds' ratios of p99, so that one slow moment of the machine decides nothing."""
    p99 = [{case: percentile(seconds, 0.99) for case, seconds in one.items()} for one in rounds]
    cases = [case for case in rounds[0] if case != IDLE]
    return {f"innocent_{case}": statistics.median(one[case] / one[IDLE] for one in p99) for case in cases}


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
