"""``make bench-hostile``: the most that one sandbox, or one client, can take from the host, and the effect on a
neighbour.

An innocent tenant submits one small program after another. Beside it another tenant abuses in each way that
:mod:`.abuses` has, some seconds each. Printed is the table of SECURITY.md; ``--publish`` puts it there.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.settings import Settings
from tests.bench import report
from tests.bench.measure import percentile
from tests.bench.systems.mayfly import EXECUTIONS, WAIT_SECONDS, Driver, Mayfly, installed
from tests.bench.systems.programs import PRINT
from tests.bench.taken.abuses import ABUSES
from tests.bench.taken.hostile import tenant
from tests.bench.taken.takings import MIB, Host
from tests.harness import ROOT

PAUSE_SECONDS = 0.05
SECONDS = 4.0
POOL = {"pool_size": 0, "pool_sizes": {"python": 4}, "pool_max": 4}
HEADING = "## What one sandbox can take\n"
INTRODUCTION = """\
Measured by `make bench-hostile`: one tenant runs each of these programs, one sandbox at a time, within default limits,
while another tenant submits `print(1)` repeatedly. Each figure is the difference from a run of the second tenant alone.
- CPU in cores: *charged* counts against the sandbox's `cpu_cores`, *not charged* is all other work of the host; the
  next three columns are parts of it.
- Memory is the peak; *not charged* is memory charged to no sandbox.
- The neighbour is the second tenant: its waiting times, as multiples of the times measured alone.
- Two runs differ by up to 0.1 cores and 20 MB; on a machine with other work (`load_before`) all figures are rough.
"""
COLUMNS = (
    "one sandbox that …", "ends", "CPU charged", "CPU not charged", "worker", "API, Redis", "kernel",
    "memory not charged", "Redis", "API", "flushes /s", "disk read /s", "neighbour p50", "p99",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The measurements beside one abuse: cores, bytes, rates, and a neighbour's waits."""

    name: str
    does: str
    ends: dict[str, int]
    rates: dict[str, float]
    memory: dict[str, float]
    waits: tuple[float, ...]

    def cells(self, idle: Row) -> list[str]:
        """The row of the table, as the difference to an innocent tenant alone."""
        more = {name: max(0.0, rate - idle.rates[name]) for name, rate in self.rates.items()}
        outside = max(0.0, _outside(self.rates) - _outside(idle.rates))
        memory = {name: max(0.0, most - idle.memory[name]) / MIB for name, most in self.memory.items()}
        ends = "; ".join(self.ends)
        return [
            self.does,
            ends.replace("|", " "),
            f"{more['sandboxes']:.2f}",
            f"{outside:.2f}",
            f"{more['worker']:.2f}",
            f"{more['api'] + more['redis']:.2f}",
            f"{more['kernel_threads'] + more['interrupts']:.2f}",
            *(f"{memory[name]:.0f} MB" for name in ("outside", "redis", "api")),
            f"{more['flushes']:.0f}",
            f"{more['read_bytes'] / MIB:.1f} MB",
            *(f"{self.share(share) / idle.share(share):.1f} ×" for share in (0.5, 0.99)),
        ]

    def share(self, share: float) -> float:
        return statistics.median(self.waits) if share == 0.5 else percentile(list(self.waits), share)


def _outside(rates: dict[str, float]) -> float:
    """Busy cores charged to no sandbox, without the measurement's own."""
    return rates["busy"] - rates["sandboxes"] - rates["ours"]


def report_progress(what: str) -> None:
    """Progress, apart from the result."""
    print(f"bench: {what}", file=sys.stderr, flush=True)


def measured(mayfly: Mayfly, host: Host, innocent: str, other: str, name: str, seconds: float) -> Row:
    """One row; ``name`` may be empty, for an innocent alone."""
    mayfly.let_rest(PRINT.environment)
    host.rest()
    ends: dict[str, int] = {}
    with _abuser(mayfly, other, name, ends) as others, host.most() as most:
        before, began = host.counters(others), time.monotonic()
        waits = _innocent(mayfly, innocent, seconds)
        after = host.counters(others)
        rates = after.since(before, time.monotonic() - began)
    does = ABUSES[name].does if name else "nothing"
    return Row(name, does, ends, rates, dict(vars(most)), tuple(waits))


def _innocent(mayfly: Mayfly, token: str, seconds: float) -> list[float]:
    found = []
    until = time.monotonic() + seconds
    with mayfly.wire(token) as wire:
        request = wire.prepared("POST", EXECUTIONS, mayfly.body(PRINT), WAIT_SECONDS)
        while time.monotonic() < until:
            time.sleep(PAUSE_SECONDS)  # think time
            began = time.monotonic()
            answer = wire.exchange(request)
            found.append(time.monotonic() - began)
            assert answer["state"] == "succeeded", answer
    return found


@contextmanager
def _abuser(mayfly: Mayfly, token: str, name: str, ends: dict[str, int]) -> Iterator[list[int]]:
    """The other abuses beside what is done here; how its executions ended is in ``ends`` afterwards."""
    if not name:
        yield []
        return
    command = [sys.executable, "-m", "tests.bench.taken.abuser", str(mayfly.stack.port), name]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin
        assert other.stdout
        other.stdin.write(f"{token}\n")
        other.stdin.flush()
        yield [other.pid]
        other.stdin.close()
        ends |= json.loads(other.stdout.read() or "{}")
    assert other.returncode == 0, other.returncode


def table(idle: Row, rows: list[Row]) -> str:
    """Markdown."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(row.cells(idle) for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def document(about: dict[str, Any], driver: Driver, idle: Row, rows: list[Row], seconds: float) -> str:
    """The whole section."""
    return (
        f"{HEADING}"
        f"{INTRODUCTION}\n"
        f"{', '.join(f'{name} {value}' for name, value in about.items())}; {driver.name}; {seconds:g} s each; alone: "
        f"p50 {idle.share(0.5) * 1000:.0f} ms, p99 {idle.share(0.99) * 1000:.0f} ms.\n\n"
        f"{table(idle, rows)}"
    )


def publish(text: str) -> None:
    """Replace the section in SECURITY.md."""
    page = ROOT / "SECURITY.md"
    before, heading, rest = page.read_text(encoding="utf-8").partition(HEADING)
    _, following, after = rest.partition("\n## ")
    assert heading, f"SECURITY.md has no {HEADING!r}"
    page.write_text(f"{before}{text}{following}{after}", encoding="utf-8")


def main() -> int:
    """Measure, print, write; the exit code."""
    parser = argparse.ArgumentParser(prog="make bench-hostile", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which abuses; all unless given: {', '.join(ABUSES)}")
    parser.add_argument("--driver", default="docker/runc", help="driver and runtime, such as oci/crun")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long each is measured")
    parser.add_argument("--output", type=Path, default=Settings().state_dir / "bench", help="directory of the results")
    parser.add_argument("--publish", action="store_true", help="also write the table into SECURITY.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # whatever was started is ended first
    driver = Driver(*options.driver.split("/"))
    names = options.names or list(ABUSES)
    unknown = set(names) - ABUSES.keys()
    if unknown:
        parser.error(f"there is no abuse {', '.join(sorted(unknown))}")
    with (
        tempfile.TemporaryDirectory(prefix="mayfly-bench-") as directory,
        installed(driver, Path(directory), **POOL) as mayfly,
    ):
        innocent, other = tenant(mayfly, "innocent"), tenant(mayfly, "other", "blobs:write")
        host = Host(mayfly.stack, driver.driver)
        report_progress("an innocent alone")
        measured(mayfly, host, innocent, other, "", options.seconds)  # the first is slower
        idle = measured(mayfly, host, innocent, other, "", 2 * options.seconds)
        rows = []
        for name in names:
            report_progress(f"an innocent beside one that {ABUSES[name].does}")
            rows.append(measured(mayfly, host, innocent, other, name, options.seconds))
        host.close()
    about = report.machine()
    text = document({**about, "load_before": round(about["load_before"], 1)}, driver, idle, rows, options.seconds)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "taken.md").write_text(text, encoding="utf-8")
    found = [vars(row) for row in (idle, *rows)]
    (options.output / "taken.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(text)
    if options.publish:
        publish(text)
    report_progress(f"results are in {options.output}")
    return 0
