"""``make bench`` in its short form: it runs, and no ratio has fallen by a third against the committed baseline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from tests.bench.expected import BY_KEY, FIGURES, fallen
from tests.bench.measure import percentile, sustained
from tests.bench.systems.child import Absent, Child
from tests.bench.systems.images import peer_images, sandbox_images
from tests.bench.systems.programs import PRINT
from tests.bench.systems.venvs import PEERS, interpreter
from tests.bench.upkeep import Holdings
from tests.harness import ROOT

BASELINE = ROOT / "tests" / "bench" / "baseline.json"


@pytest.fixture
def quiet_machine() -> None:
    """Skips beside much other work, whose ratios they would be; where CI is set, the test runs all the same."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > 2 * cores and not os.environ.get("CI"):
        pytest.skip(f"the machine is busy: load {load:.1f} on {cores} cores")


@pytest.mark.alone
@pytest.mark.usefixtures("images", "quiet_machine")
def test_short_bench_meets_its_baseline(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "--short", "--output", str(tmp_path)]
    # Not measured for coverage, which would slow down Mayfly alone, and of which the baseline knows nothing.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=290)
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


def test_ratio_lower_by_a_third_is_reported() -> None:
    baseline = {"docker_throughput_to_raw": 0.9, "docker_latency_to_raw": 0.2}
    good = {"docker_throughput_to_raw": 0.65, "docker_latency_to_raw": 0.29}
    assert fallen(good, baseline, complete=True) == []
    slower = {"docker_throughput_to_raw": 0.55, "docker_latency_to_raw": 0.31}
    assert [line.split(":")[0] for line in fallen(slower, baseline, complete=True)] == list(baseline)


def test_unmeasured_ratio_fails_a_complete_comparison() -> None:
    baseline = {"oci_throughput_to_raw": 0.8}
    assert fallen({}, baseline, complete=False) == []
    assert len(fallen({}, baseline, complete=True)) == 1


def test_throughput_excludes_warm_up() -> None:
    made_ahead = [0.01 * n for n in range(50)]  # 100 a second, as long as there were containers
    after = [0.5 + 0.1 * n for n in range(1, 20)]  # 10 a second
    late = [2.9, 3.3]  # begun before the end of two seconds, with fewer and fewer beside them
    assert sustained([*made_ahead, *after, *late], seconds=2.0) == pytest.approx(10)
    assert sustained([1.0, 4.0], seconds=2.0) == 0.5


def test_percentile_is_the_value_not_exceeded_by_that_share() -> None:
    assert [percentile([float(n) for n in range(size, 0, -1)], 0.99) for size in (1, 100, 200)] == [1, 99, 198]


def test_bench_reports_leftovers_of_a_worker() -> None:
    before = Holdings(100, 50_000_000, descriptors=60, threads=6, mounts=37, cgroups=9, uids=5)
    assert not any(before.left_over(replace(before, executions=200, resident_bytes=60_000_000)).values())
    after = replace(before, descriptors=61, uids=4)
    assert {name: more for name, more in before.left_over(after).items() if more} == {"descriptors": 1, "uids": -1}


def test_peer_that_cannot_be_installed_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(Absent, match=r"not installed: ERROR: No matching distribution found for epicbox"):
        interpreter(PEERS[0], tmp_path)


def test_peer_image_starts_a_container_as_root_by_name(images: Path) -> None:
    reference = peer_images(sandbox_images(images, ("bash",)))["bash"]
    api = docker.APIClient()
    container = api.create_container(
        reference, ["/usr/bin/id", "-un"], entrypoint=[""], user="root", network_disabled=True
    )["Id"]
    try:
        api.start(container)
        assert api.wait(container, timeout=60)["StatusCode"] == 0
        assert api.logs(container) == b"root\n"
    finally:
        api.remove_container(container, force=True)
        api.close()


def test_failing_contestant_is_absent_with_its_reason(tmp_path: Path) -> None:
    broken = "import sys; print('Traceback', file=sys.stderr); sys.exit('there is no engine')"
    with pytest.raises(Absent, match="it ended: there is no engine"):
        Child([sys.executable, "-c", broken], {}, tmp_path / "log")
    wrong = (
        "from tests.bench.peers.serve import Contestant, check, serve\n"
        "class Wrong(Contestant):\n"
        "    def about(self): return {'version': '1'}\n"
        "    def run(self, program): check(program, '2\\n')\n"
        "    def close(self): pass\n"
        "serve(lambda setting: {'run': Wrong()})\n"
    )
    child = Child([sys.executable, "-c", wrong], {}, tmp_path / "log")
    try:
        with pytest.raises(Absent, match="print printed '2"):
            child.ask("run", "latency", PRINT, runs=1)
    finally:
        child.close()


def test_figures_get_their_verdicts() -> None:
    latency, throughput = BY_KEY["oci_p50"], BY_KEY["submit_only"]
    assert [latency.verdict(value) for value in (None, 12.0, 12.1)] == ["not measured", "pass", "short"]
    assert [throughput.verdict(value) for value in (800.0, 799.0)] == ["pass", "short"]
    assert len({figure.key for figure in FIGURES}) == len(FIGURES)


def test_fleet_bench_runs(tmp_path: Path) -> None:
    """``make bench-fleet`` runs, and an execution costs as few round trips as it should. No engine is needed."""
    path = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.bench.fleet", "--runs", "100", "--workers", "1", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(path.read_text())
    drained, waited = figures["drain"]["1"], figures["wait"]["8 clients"]
    assert drained["redis_round_trips"] < 4.5  # claimed, ended; the heartbeats beside them
    assert waited["redis_round_trips"] < 8.5  # six at most; the heartbeats beside them
    assert drained["cpu_ms"]["workers"] > 0
    assert waited["cpu_ms"]["api"] > 0


@pytest.mark.complete
def test_shards_bench_runs(tmp_path: Path) -> None:
    """``make bench-shards`` runs; it checks itself that each shard has the executions of its own tenants alone."""
    path = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.bench.fleet.shards", "--shards", "1,2", "--runs", "24", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(path.read_text())
    assert [(row["shards"], row["workers"]) for row in rows] == [(1, 1), (2, 2), (1, 2)]
    assert [row["sum"] for row in rows] == [sum(row["rates"]) for row in rows]
    assert all(row["redis_ms"] > 0 for row in rows)
