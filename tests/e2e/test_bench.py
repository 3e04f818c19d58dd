"""``make bench`` in its short form: it runs, and no ratio has fallen by a third against the committed baseline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.expected import BY_KEY, FIGURES, fallen
from tests.harness import ROOT

BASELINE = ROOT / "tests" / "bench" / "baseline.json"


@pytest.fixture
def quiet_machine() -> None:
    """Skips beside much other work, whose ratios they would be; where CI is set, the test runs all the same."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 2 * cores and not os.environ.get("CI"):
        pytest.skip(f"the machine is busy: load {load:.1f} on {cores} cores")


@pytest.mark.usefixtures("images", "quiet_machine")
def test_the_short_bench(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--short", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())
    docker = "Mayfly docker/runc"
    assert found["cold_starts_where_warm_was_wanted"][docker] <= 0.2 * found["how"]["runs"]
    assert set(found["phases"][docker]) == {"queue", "start", "run", "collect"}
    assert found["cold"]["print"][docker]["p50_ms"] > found["latency"]["print"][docker]["p50_ms"]
    assert "| sustained throughput, docker/runc |" in (tmp_path / "bench.md").read_text()


def test_the_baseline_has_ratios_only() -> None:
    baseline = json.loads(BASELINE.read_text())
    assert baseline
    assert [key for key in baseline if not BY_KEY[key].ratio] == []


def test_a_ratio_that_fell_by_a_third_is_found() -> None:
    baseline = {"docker_throughput_to_raw": 0.9, "docker_latency_to_raw": 0.2}
    good = {"docker_throughput_to_raw": 0.65, "docker_latency_to_raw": 0.29}
    assert fallen(good, baseline, complete=True) == []
    slower = {"docker_throughput_to_raw": 0.55, "docker_latency_to_raw": 0.31}
    assert [line.split(":")[0] for line in fallen(slower, baseline, complete=True)] == list(baseline)


def test_a_ratio_that_was_not_measured_is_missed_where_all_are_wanted() -> None:
    baseline = {"oci_throughput_to_raw": 0.8}
    assert fallen({}, baseline, complete=False) == []
    assert len(fallen({}, baseline, complete=True)) == 1


def test_verdicts() -> None:
    latency, throughput = BY_KEY["oci_p50"], BY_KEY["submit_only"]
    assert [latency.verdict(value) for value in (None, 12.0, 12.1)] == ["not measured", "pass", "short"]
    assert [throughput.verdict(value) for value in (800.0, 799.0)] == ["pass", "short"]
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)
