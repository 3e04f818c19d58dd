"""``make bench``: Mayfly beside raw loops and other systems, as tables, JSON, Markdown and a picture.

All figures of one run come from the same machine within minutes, and only their ratios mean anything: machines drift.
``--short`` is the form that CI runs; it fails when a ratio is worse than the committed baseline by a third.
``docs/benchmarks.md`` says what is measured, and how.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.settings import Settings
from tests.bench import agents, report, tool_calls
from tests.bench.expected import BY_KEY, fallen
from tests.bench.fleet.measuring import drained
from tests.bench.fleet.submissions import submit_only
from tests.bench.guards import measuring as guards
from tests.bench.measure import Measured
from tests.bench.plot import draw
from tests.bench.systems.contestants import COMPARED, gathered
from tests.bench.systems.images import ENVIRONMENTS
from tests.bench.systems.mayfly import Driver, installed
from tests.bench.systems.programs import GROUP_BY, PRINT, PROGRAMS
from tests.bench.taken.hostile import bad_cases
from tests.bench.upkeep import idle_memory, soak
from tests.harness import ROOT

BASELINE = Path(__file__).with_name("baseline.json")
# Of a pool that follows demand it would not be known what it still holds.
FIXED_POOL = {"pool_size": 0, "pool_sizes": {"python": 2}, "pool_max": 0}


class Everything:
    """Contains whatever it is asked for."""

    def __contains__(self, _: object) -> bool:
        return True


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    runs: int
    cold_runs: int
    turns: int
    seconds: float
    levels: tuple[int, ...]
    burst: int
    soak: int
    submissions: int
    bad_runs: int
    jobs: int


SHORT = Extent(
    runs=24, cold_runs=4, turns=2, seconds=3.0, levels=(4,), burst=0, soak=0, submissions=0, bad_runs=0, jobs=0
)
FLEET_RUNS = 2000
USUAL = Extent(
    runs=100, cold_runs=12, turns=4, seconds=6, levels=(1, 2, 4, 8), burst=200, soak=1000, submissions=4000,
    bad_runs=200, jobs=10_000,
)  # fmt: skip


def report_progress(what: str) -> None:
    """Progress, apart from the result."""
    print(f"bench: {what}", file=sys.stderr, flush=True)


def measure(extent: Extent, state: Path, short: bool, peers: bool) -> report.Document:
    """Everything."""
    about = report.machine()
    environments = ("python",) if short else ENVIRONMENTS
    with gathered(state, environments, peers and not short, COMPARED if short else Everything()) as taking_part:
        measured = Measured(taking_part, report_progress)
        for program in (PRINT,) if short else PROGRAMS.values():
            cold = extent.cold_runs if program in (PRINT, GROUP_BY) else 0
            measured.latencies(program, program.runs(extent.runs), extent.turns, cold)
        measured.throughputs(PRINT, extent.seconds, extent.levels, min(3, extent.turns))
        if not short:
            measured.first_byte(PRINT, extent.runs // 2)
            measured.burst(PRINT, extent.burst, COMPARED, 2)
        found = report.document(measured, machine=about, how={"short": short, **vars(extent)})
        if not short:
            found["figures"] |= idle_memory(taking_part.best)
            found["bad_cases"] = bad_cases(taking_part.best, extent.bad_runs, extent.jobs, report_progress)
            found["figures"] |= found["bad_cases"]["figures"]
            report_progress("the picture")
            draw(taking_part.best, found, state / "bench.png")
    if not short:
        alone(found, taking_part.best.driver, extent)
    return found


def alone(found: report.Document, driver: Driver, extent: Extent) -> None:
    """Measurements that need an otherwise idle machine; added to ``found``."""
    with tempfile.TemporaryDirectory(prefix="mayfly-bench-") as directory:
        with installed(driver, Path(directory), **FIXED_POOL) as mayfly:
            found["soak"] = soak(mayfly, extent.soak, report_progress)
        found["figures"] |= found["soak"]["figures"]
        report_progress("submissions only")
        empty = Path(directory) / "submissions"
        empty.mkdir()
        found["figures"]["submit_only"] = submit_only(empty, PRINT, extent.submissions, 4)
        report_progress("authentication to audit")
        guarded = Path(directory) / "guards"
        guarded.mkdir()
        found["figures"] |= guards.figures(guarded)
        report_progress("agents")
        crowded = Path(directory) / "agents"
        crowded.mkdir()
        found["figures"] |= agents.figures(driver, crowded)
        report_progress("calls of tools")
        calling = Path(directory) / "tools"
        calling.mkdir()
        found["figures"] |= tool_calls.figures(driver, calling)
    report_progress("the control plane alone")
    found["figures"]["fleet"] = drained(FLEET_RUNS, 4)["per_second"]


def publish(found: report.Document, output: Path) -> None:
    """Put the results at the end of the page about them."""
    page = ROOT / "docs" / "benchmarks.md"
    text, heading, _ = page.read_text(encoding="utf-8").partition("## Results\n")
    shutil.copyfile(output / "bench.png", page.with_suffix(".png"))
    picture = "![latency and throughput](benchmarks.png)\n"
    page.write_text(f"{text}{heading}\n{report.markdown(found)}\n{picture}", encoding="utf-8")


def main() -> int:
    """Measure, print, write; the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="ratios only, and fail where one fell by a third")
    parser.add_argument("--soak", type=int, default=USUAL.soak, help="executions after which leaks are looked for")
    parser.add_argument("--runs", type=int, default=USUAL.runs, help="runs of the smallest program")
    parser.add_argument("--no-peers", action="store_true", help="without other systems, which pip would install")
    parser.add_argument("--output", type=Path, default=Settings().state_dir / "bench", help="directory of the results")
    parser.add_argument("--publish", action="store_true", help="also write results and picture into docs/benchmarks.md")
    parser.add_argument("--new-baseline", action="store_true", help="with --short: commit to these ratios from now on")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # whatever was started is ended first
    output = options.output.absolute()
    if options.short:
        return short(output, options.new_baseline)
    extent = Extent(**{**vars(USUAL), "soak": options.soak, "runs": options.runs})
    found = measure(extent, output, short=False, peers=not options.no_peers)
    keep(found, output)
    if options.publish:
        publish(found, output)
    return 0


def short(output: Path, new_baseline: bool) -> int:
    """The short form: 1 when a ratio fell by a third, twice over. A passing disturbance is over by the second time."""
    worse: list[str] = []
    for _ in range(2):
        found = measure(SHORT, output, short=True, peers=False)
        keep(found, output)
        ratios = {key: round(value, 4) for key, value in found["figures"].items() if BY_KEY[key].ratio}
        if new_baseline:
            BASELINE.write_text(json.dumps(ratios, indent=1) + "\n", encoding="utf-8")
        # A contestant that this machine cannot have is no failure here; where the checks run, it is one.
        baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
        worse = fallen(ratios, baseline, complete=bool(os.environ.get("CI")))
        for line in worse:
            report_progress(f"fell by a third: {line}")
        if not worse:
            return 0
    return 1


def keep(found: report.Document, output: Path) -> None:
    """Print the results, and write them."""
    report.show(found)
    (output / "bench.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (output / "bench.md").write_text(report.markdown(found), encoding="utf-8")
    report_progress(f"results are in {output}")


if __name__ == "__main__":
    sys.exit(main())
