"""``python -m tests.bench.parts``: what each part of the wall and of the agent costs for each container.

Containers of all variants are made by turns, in a new order in each round, and each is compared with the whole
container of the same round. CPU time is counted, so the differences hold on a busy machine, too; times until a
container waits do not. ``--publish`` puts the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from orchestrator.host.oci import WITHOUT_UNIFIED, unified_mount
from orchestrator.settings import Settings
from tests.bench.parts.containers import Containers, Cost
from tests.bench.parts.variants import VARIANTS, WHOLE, Variant
from tests.bench.publishing import published
from tests.bench.report import machine
from tests.harness import IMAGES, ROOT

DOCUMENT = ROOT / "docs" / "benchmarks.md"
ROUNDS = 100
MILLISECONDS = 1000.0
HEAD = (
    "| part | CPU ms | quartiles | ms until it waits |",
    "|---|---:|---:|---:|",
)


def main() -> int:
    """Measure, print, and publish; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.parts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="containers of each variant")
    parser.add_argument("--publish", action="store_true", help="also write the table into docs/benchmarks.md")
    options = parser.parse_args()
    if (unified := unified_mount(Settings().cgroup_root)) is not None:  # crun refuses it; unmounted once for all
        os.execvp(
            WITHOUT_UNIFIED[0],
            [*WITHOUT_UNIFIED, str(unified), sys.executable, "-m", "tests.bench.parts", *sys.argv[1:]],
        )
    about = machine()
    with tempfile.TemporaryDirectory(prefix="mayfly-bench-", dir="/dev/shm") as work:
        containers = Containers(IMAGES, Settings().state_dir.absolute() / "bench", Path(work))
        costs = measured(containers.run, VARIANTS, options.rounds)
        head = (
            f"Measured {about['date']} on {about['cores']} cores ({about['processor']}, Linux {about['kernel']}), "
            f"crun {containers.version}, {options.rounds} rounds, load {about['load_before']:.1f}."
        )
    text = f"{head}\n\n{table(costs)}"
    print(text)
    if options.publish:
        DOCUMENT.write_text(published(DOCUMENT.read_text(), {"parts": text}))
    return 0


def measured(run: Callable[[Variant], Cost], variants: Iterable[Variant], rounds: int) -> dict[Variant, list[Cost]]:
    """The costs of each variant, one for each round."""
    order, costs = list(variants), defaultdict(list)
    run(WHOLE)  # the first compiles the filter, and reads the image's files
    shuffled = random.Random(0)
    for _ in range(rounds):
        shuffled.shuffle(order)
        for variant in order:
            costs[variant].append(run(variant))
    return dict(costs)


def table(costs: dict[Variant, list[Cost]]) -> str:
    """The whole container, then each part: the whole less the container without it, or the container with it less the
    whole.
    """
    whole = costs[WHOLE]
    lines = [*HEAD, _line(WHOLE.part, whole)]
    for variant in VARIANTS[1:]:
        sign = 1 if variant.adds else -1
        pairs = zip(costs[variant], whole, strict=True)
        lines.append(_line(variant.part, [Cost(sign * (a.cpu - b.cpu), sign * (a.ready - b.ready)) for a, b in pairs]))
    return "\n".join(lines)


def _line(name: str, costs: list[Cost]) -> str:
    low, middle, high = statistics.quantiles([cost.cpu * MILLISECONDS for cost in costs], n=4)
    ready = statistics.median(cost.ready for cost in costs) * MILLISECONDS
    return f"| {name} | {middle:.1f} | {low:.1f} to {high:.1f} | {ready:.1f} |"


if __name__ == "__main__":
    sys.exit(main())
