"""``make chaos``: things are killed, stopped and cut off while clients submit, and then everything is looked at.

    python -m tests.chaos --seconds 120 --seed 7 --kills 5

First workers are killed at every step, so many times each; then, for so many seconds, faults come as the seed decides.
What is printed says what was done; the exit code is 0 only if nothing was violated.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos.installation import LEASE_SECONDS, Installation, Load
from tests.chaos.kills import MOST_PASSES, Report, kill_at_every_step
from tests.chaos.proxy import Proxy
from tests.chaos.workers import STEPS, Fate

WORKERS = 3
CLIENTS = 24
FATED = 0.7  # of the workers end by themselves at some step


class Mixture:
    """Faults, one after the other, as a seed decides."""

    def __init__(self, stack: Installation, proxy: Proxy, seed: int) -> None:
        self._stack, self._proxy, self._chance = stack, proxy, random.Random(seed)
        self.done: Counter[str] = Counter()
        self._faults: dict[Callable[[], None], float] = {
            self.worker_killed: 4, self.worker_stopped: 2, self.worker_ended: 1, self.redis_killed: 1,
            self.api_killed: 1, self.connections_cut: 3, self.connections_half_closed: 2, self.network_held: 1,
            self.answers_lost: 2, self.network_slow: 2,
        }  # fmt: skip

    def fates(self) -> Iterator[Fate]:
        """Of the workers that come."""
        while True:
            fated = self._chance.random() < FATED
            yield Fate(self._chance.choice(STEPS), self._chance.randrange(1, 4 * MOST_PASSES)) if fated else Fate()

    def next(self) -> None:
        """One fault."""
        (fault,) = self._chance.choices(list(self._faults), list(self._faults.values()))
        fault()
        self.done[fault.__name__.replace("_", " ")] += 1
        time.sleep(self._chance.random() / 2)  # faults shall not all come at once

    def one_worker(self, pids: list[int]) -> list[int]:
        return [self._chance.choice(pids)] if pids else []

    def worker_killed(self) -> None:
        self._signal(signal.SIGKILL)

    def worker_ended(self) -> None:
        self._signal(signal.SIGTERM)

    def worker_stopped(self) -> None:
        """For longer than its lease, or not quite."""
        (pid,) = self.one_worker(self._stack.crew.pids() if self._stack.crew else []) or (0,)
        self._signal(signal.SIGSTOP, pid)
        time.sleep(self._chance.uniform(0.5, 1.5) * LEASE_SECONDS)
        self._signal(signal.SIGCONT, pid)

    def redis_killed(self) -> None:
        self._stack.redis.stop(signal.SIGKILL)
        self._stack.redis.start()

    def api_killed(self) -> None:
        if self._stack.api is not None:
            self._stack.api.stop(signal.SIGKILL)
        self._stack.start_api()

    def connections_cut(self) -> None:
        self._proxy.cut()

    def connections_half_closed(self) -> None:
        self._proxy.half_close()

    def network_held(self) -> None:
        self._proxy.hold()
        time.sleep(self._chance.uniform(0.2, 1.5) * LEASE_SECONDS)
        self._proxy.flow()

    def answers_lost(self) -> None:
        self._proxy.cut_chance = 0.05
        time.sleep(self._chance.uniform(0.5, 2))
        self._proxy.cut_chance = 0.0

    def network_slow(self) -> None:
        self._proxy.delay_seconds = 0.05
        time.sleep(self._chance.uniform(0.5, 2))
        self._proxy.delay_seconds = 0.0

    def _signal(self, number: int, pid: int | None = None) -> None:
        if self._stack.crew is not None:
            self._stack.crew.signal(
                number, lambda pids: self.one_worker(pids) if pid is None else [pid] * (pid in pids)
            )


def mix(stack: Installation, seconds: float, seed: int) -> Report:
    """A random mixture of faults under load, for so long."""
    proxy = Proxy(stack.redis.socket, seed)
    stack.env["MAYFLY_REDIS_URL"] = proxy.url
    try:
        mixture = Mixture(stack, proxy, seed)
        crew = stack.begin(WORKERS, mixture.fates())
        load = Load(stack, CLIENTS, seed)
        until = time.monotonic() + seconds
        while time.monotonic() < until and load.busy:
            mixture.next()
        crew.spare()
        load.stop()
        found = load.refused + stack.check(load.accepted, 40)
        faults = mixture.done + Counter({f"worker killed: {step}": count for step, count in crew.deaths().items()})
        return Report(len(load.accepted), faults, load.again, found)
    finally:
        proxy.close()


def show(what: str, report: Report) -> None:
    """What was done, and what was violated."""
    print(
        f"{what}: {report.executions} executions, {report.faults.total()} faults, {len(report.violations)} violations"
    )
    for fault, count in sorted(report.faults.items()):
        print(f"  {count:5} {fault}")
    print(f"  clients tried again: {dict(report.again)}")
    for violation in report.violations[:50]:
        print(f"  VIOLATED {violation}")


def main() -> int:
    """Run it; the exit code says whether anything was violated."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the mixture")
    parser.add_argument("--kills", type=int, default=50, help="at each step")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="a directory for logs and state, which stays")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    violated = 0
    runs: list[tuple[str, Callable[[Installation], Report]]] = []
    if options.kills:
        runs.append(("kills at every step", lambda stack: kill_at_every_step(stack, options.kills, seed)))
    if options.seconds:
        runs.append(("mixture", lambda stack: mix(stack, options.seconds, seed)))
    for number, (what, run) in enumerate(runs):
        with tempfile.TemporaryDirectory() as temporary:
            directory = (options.keep or Path(temporary)) / f"run-{number}"
            directory.mkdir(parents=True)
            stack = Installation(directory)
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
