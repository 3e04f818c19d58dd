"""``mayfly bench`` against a real stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.harness import Stack


def bench(stack: Stack, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.cli", "bench", "--runs", "3", *options]
    return subprocess.run(command, env={**os.environ, **stack.env}, capture_output=True, text=True, timeout=280)


def test_bench_splits_time_by_step(stack: Stack) -> None:
    done = bench(stack, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["runs"], 0 <= figures["warm"] <= 3) == (3, True)
    total = figures["total_seconds"]
    assert 0 < figures["run_seconds"]["p50"] < total["p50"] <= total["p99"]
    table = bench(stack)
    assert [line.split("\t")[0] for line in table.stdout.splitlines()] == [
        "total", "queue", "start", "run", "collect", "warm starts",
    ]  # fmt: skip


def test_bench_fails_for_unknown_environment(stack: Stack) -> None:
    done = bench(stack, "--env", "cobol")
    assert done.returncode == 2
    assert "cobol" in done.stderr
