"""``make bench``: latency and throughput of Mayfly beside the container engine's own, as a table and as JSON.

All figures of one run come from the same machine within minutes, and only their ratios mean anything: machines drift.
``--short`` is the form that CI runs; it fails when a ratio is worse than its bound.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
from rich.console import Console
from rich.table import Table

from tests.harness import IMAGES, ROOT, Stack, eventually

PROGRAM = "print(1)"
PHASES = ("queue_seconds", "start_seconds", "run_seconds", "collect_seconds")
# What must hold on any machine; the first three are the product's targets, with no allowance.
WARM_TO_RAW = 0.2
THROUGHPUT_TO_RAW = 0.8


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of all lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def summary(values: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    return {"p50_ms": statistics.median(values) * 1000, "p99_ms": percentile(values, 0.99) * 1000}


class RawEngine:
    """The engine's own loop: create, start, wait, remove, with the limits a sandbox has."""

    def __init__(self, image: str) -> None:
        self._api = docker.APIClient()
        self._image = image

    def once(self) -> float:
        """One container for one program; seconds until it is known to have ended, and it is removed after that."""
        began = time.monotonic()
        host = self._api.create_host_config(
            network_mode="none", read_only=True, cap_drop=["ALL"], mem_limit=512 * 2**20, pids_limit=65,
            nano_cpus=10**9, security_opt=["no-new-privileges"], log_config={"Type": "none"},
        )  # fmt: skip
        id = self._api.create_container(
            self._image, entrypoint=["/usr/bin/python3", "-c", PROGRAM], host_config=host, user="65534"
        )["Id"]
        self._api.start(id)
        code = self._api.wait(id)["StatusCode"]
        assert code == 0
        self._api.remove_container(id)
        return time.monotonic() - began


def docker_run(image: str) -> float:
    """The engine's command line, the same program."""
    command = [
        "docker", "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--memory", "512m",
        "--pids-limit", "65", "--security-opt", "no-new-privileges", "--entrypoint", "/usr/bin/python3", image,
        "-c", PROGRAM,
    ]  # fmt: skip
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == b"1\n"
    return time.monotonic() - began


def latency(stack: Stack, runs: int) -> tuple[list[float], list[dict[str, Any]]]:
    """Total seconds of ``runs`` executions, each on an idle stack with its pool full, and what each said of itself."""
    totals, ended = [], []
    for _ in range(runs):
        eventually(lambda: _idle(stack), "the stack is idle", 60)
        began = time.monotonic()
        execution = stack.run(code=PROGRAM)
        totals.append(time.monotonic() - began)
        assert (execution["state"], execution["stdout"]) == ("succeeded", "1\n")
        ended.append(execution)
    return totals, ended


def _idle(stack: Stack) -> bool:
    metrics = stack.worker_metrics()
    waiting = metrics.get('mayfly_pool_containers{environment="python"}', 0)  # absent until the first one waits
    return waiting >= 2 and metrics["mayfly_worker_slots_busy"] == 0


def throughput(stack: Stack, runs: int, at_once: int) -> float:
    """Executions a second, sustained by clients that keep a few waiting."""
    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as clients:
        for execution in clients.map(lambda _: stack.run(code=PROGRAM), range(runs)):
            assert execution["state"] == "succeeded"
    return runs / (time.monotonic() - began)


def raw_throughput(image: str, runs: int, at_once: int) -> float:
    """Containers a second of the engine's own loop, from as many threads."""
    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(lambda _: RawEngine(image).once(), range(runs)))
    return runs / (time.monotonic() - began)


def measure(runs: int) -> dict[str, Any]:
    """Everything, on a stack of its own."""
    command = [sys.executable, "-m", "sandbox_image.build", "python", "--output", str(IMAGES)]
    subprocess.run(command, cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as directory:
        stack = Stack(Path(directory), pool_size=0, pool_sizes={"python": 2})
        try:
            stack.start()
            image = eventually(lambda: _image(stack), "the worker offers python")
            raw = RawEngine(image)
            latency(stack, 3)
            totals, ended = latency(stack, runs)
            raw_seconds = [raw.once() for _ in range(max(10, runs // 4))]
            cli_seconds = [docker_run(image) for _ in range(max(5, runs // 10))]
            rates = [(throughput(stack, runs, 4), raw_throughput(image, runs, 2)) for _ in range(2)]
        finally:
            stack.stop()
    warm = [total for total, execution in zip(totals, ended, strict=True) if execution["start"] == "warm"]
    mayfly, engine = statistics.mean(rate for rate, _ in rates), statistics.mean(rate for _, rate in rates)
    return {
        "runs": runs,
        "warm_runs": len(warm),
        "warm": summary(warm),
        "phases": {phase: summary([execution["timings"][phase] for execution in ended]) for phase in PHASES},
        "raw_engine_loop": summary(raw_seconds),
        "docker_run": summary(cli_seconds),
        "warm_to_raw": statistics.median(warm) / statistics.median(raw_seconds),
        "throughput_per_second": mayfly,
        "raw_throughput_per_second": engine,
        "throughput_to_raw": mayfly / engine,
    }


def _image(stack: Stack) -> str | None:
    items = stack.client.get("/api/v1/environments").json()["items"]
    return next((item["image"] for item in items if item["name"] == "python"), None)


def show(figures: dict[str, Any]) -> None:
    """The table."""
    table = Table("figure", "p50 ms", "p99 ms", title=f"print(1), {figures['runs']} runs")
    rows = {"Mayfly, warm, total": figures["warm"]}
    rows |= {f"  {phase.removesuffix('_seconds')}": figures["phases"][phase] for phase in PHASES}
    rows |= {
        "engine: create, start, wait, remove": figures["raw_engine_loop"],
        "docker run --rm": figures["docker_run"],
    }
    for name, row in rows.items():
        table.add_row(name, f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}")
    console = Console()
    console.print(table)
    console.print(f"warm to raw loop, p50: {figures['warm_to_raw']:.2f} (wanted: at most {WARM_TO_RAW})")
    console.print(
        f"throughput: {figures['throughput_per_second']:.1f} /s, "
        f"raw loop {figures['raw_throughput_per_second']:.1f} /s, "
        f"ratio {figures['throughput_to_raw']:.2f} (wanted: at least {THROUGHPUT_TO_RAW})"
    )


def main() -> int:
    """Measure, print, write JSON; 1 when a short run's ratio is out of bounds by more than a third."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="few runs, and fail on bad ratios")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--json", type=Path, default=Path("bench-results.json"))
    options = parser.parse_args()
    figures = measure(20 if options.short else options.runs)
    show(figures)
    options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if not options.short:
        return 0
    good = figures["warm_to_raw"] <= WARM_TO_RAW * 4 / 3 and figures["throughput_to_raw"] >= THROUGHPUT_TO_RAW * 2 / 3
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
