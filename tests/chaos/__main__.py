"""``make chaos``: things are killed, stopped and cut off while clients submit, and then everything is looked at.

    python -m tests.chaos --seconds 120 --seed 7 --kills 5
    python -m tests.chaos --seconds 120 --seed 7 --kills 0 --driver oci
    python -m tests.chaos --seconds 0 --kills 0 --driver oci --soak 3600

First workers are killed at every step, so many times each; then, for so many seconds, faults come as the seed decides;
then, when asked for, fewer of them under a load that can be borne, while what is held is watched for growth.
Containers are directories, which cost nothing (driver ``none``), or real ones: ``oci`` makes them with crun, ``docker``
with an engine of its own, and then agents, runtimes and that engine are killed, too. What is printed says what was
done; the exit code is 0 only if nothing was violated.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.chaos.installations.installation import Installation
from tests.chaos.kills import Report, kill_at_every_step
from tests.chaos.mixture import BY_DRIVER, mix, shown
from tests.chaos.soak import RETENTION_SECONDS, grown, growth, soak
from tests.harness import IMAGES, ROOT


def show(what: str, report: Report) -> None:
    """Print the actions and the violations."""
    print(
        f"{what}: {report.executions} executions, {report.faults.total()} faults, {len(report.violations)} violations"
    )
    for fault, count in sorted(report.faults.items()):
        print(f"  {count:5} {fault}")
    print(f"  clients tried again: {dict(report.again)}")
    for violation in report.violations[:50]:
        print(f"  VIOLATED {violation}")


def soaked(stack: Installation, seconds: float, seed: int) -> Report:
    """A soak, and what was held meanwhile. What grew counts as violation."""
    found = soak(stack, seconds, seed)
    print(f"capacity {found.capacity:.1f} executions/s; held in the second quarter, and in the last:")
    for name, (before, after) in growth(found.holdings).items():
        print(f"  {name:20} {before:14,.0f} {after:14,.0f}")
    return replace(found.report, violations=[*found.report.violations, *grown(found.holdings)])


def main() -> int:
    """Run the soak; the exit code is 1 if a promise was violated."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the mixture")
    parser.add_argument("--kills", type=int, default=50, help="at each step")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds of load and faults, watched for growth")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--driver", choices=BY_DRIVER, default="none", help="what makes the containers")
    parser.add_argument("--keep", type=Path, default=None, help="a directory for logs and state, which stays")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}; the mixture begins: {shown(seed, options.driver)}", flush=True)
    if options.driver != "none":
        command = [sys.executable, "-m", "sandbox_image.build", "python", "--output", str(IMAGES)]
        subprocess.run(command, cwd=ROOT, check=True)
    violated = 0
    runs: list[tuple[str, Callable[[Installation], Report]]] = []
    if options.kills:
        runs.append(("kills at every step", lambda stack: kill_at_every_step(stack, options.kills, seed)))
    if options.seconds:
        runs.append(("mixture", lambda stack: mix(stack, options.seconds, seed)))
    if options.soak:
        runs.append(("soak", lambda stack: soaked(stack, options.soak, seed)))
    for number, (what, run) in enumerate(runs):
        with tempfile.TemporaryDirectory() as temporary:
            directory = (options.keep or Path(temporary)) / f"run-{number}"
            directory.mkdir(parents=True)
            settings = {"retention_seconds": RETENTION_SECONDS} if what == "soak" else {}
            stack = Installation(directory, options.driver, **settings)
            try:
                report = run(stack)
            finally:
                stack.stop()
            show(what, report)
            violated += len(report.violations)
    print(f"seed {seed}: {violated} violations", flush=True)
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
