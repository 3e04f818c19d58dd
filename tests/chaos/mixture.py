"""A random mixture of faults, under load. The seed decides the faults; the machine's timing decides which executions
they meet.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple, TypeVar

import psutil

from tests.chaos.installations.containers import agents, launching
from tests.chaos.installations.installation import LEASE_SECONDS, Installation, Load
from tests.chaos.installations.proxy import Proxy
from tests.chaos.installations.workers import STEPS, Fate
from tests.chaos.kills import MOST_PASSES, Report
from tests.engine import RUNTIMES
from tests.harness import eventually

WORKERS = 3
CLIENTS = 24
LEAST_FAULTS = 4  # injected, also by a slow machine
FATED = 0.7  # of the workers end by themselves at some step
SHOWN = 12
# How often each comes, beside the others.
FAULTS = {
    "worker killed": 4, "worker stopped": 2, "worker ended": 1, "redis killed": 1, "api killed": 1,
    "connections cut": 3, "connections half-closed": 2, "network stalled": 1, "answers lost": 2, "network slow": 2,
}  # fmt: skip
OF_CONTAINERS = {"agent killed": 10, "runtime killed": 6}
OF_ENGINE = {"engine killed": 1, "engine crashed": 1}
BY_DRIVER = {"none": FAULTS, "oci": FAULTS | OF_CONTAINERS, "docker": FAULTS | OF_CONTAINERS | OF_ENGINE}

T = TypeVar("T")


class Step(NamedTuple):
    """One fault. The numbers are shares: of those it may hit, of the most time it may take, of the longest pause."""

    fault: str
    which: float
    how: float
    pause: float


def plan(seed: int, faults: dict[str, int]) -> Iterator[Step]:
    """Those of the faults that come, without an end: the same for the same seed."""
    chance = random.Random(seed)
    while True:
        (fault,) = chance.choices(list(faults), list(faults.values()))
        yield Step(fault, chance.random(), chance.random(), chance.random())


def fates(seed: int) -> Iterator[Fate]:
    """Those of the workers that come, without an end: the same for the same seed."""
    chance = random.Random(f"fates of {seed}")
    while True:
        fated = chance.random() < FATED
        step, passes = chance.choice(STEPS), chance.randrange(1, 4 * MOST_PASSES)
        yield Fate(step, passes) if fated else Fate()


def shown(seed: int, driver: str) -> str:
    """How the plan begins."""
    return ", ".join(step.fault for step in islice(plan(seed, BY_DRIVER[driver]), SHOWN))


class Mixture:
    """Injects faults into an installation, but not into the worker with the pid that is ``spared``."""

    def __init__(self, stack: Installation, proxy: Proxy) -> None:
        self._stack, self._proxy = stack, proxy
        self.spared = 0
        self._log = (stack.directory / "faults").open("a", encoding="utf-8")
        self.done: Counter[str] = Counter()

    def inject(self, step: Step) -> None:
        """One fault, and the pause behind it. One that finds nothing it could hit is not counted."""
        print(f"{time.time():.3f} {step.fault} {step.which:.3f} {step.how:.3f}", file=self._log, flush=True)
        if getattr(self, step.fault.replace(" ", "_").replace("-", "_"))(step) is not False:
            self.done[step.fault] += 1
        time.sleep(step.pause / 2)  # faults shall not all come at once

    def close(self) -> None:
        self._log.close()

    def worker_killed(self, step: Step) -> bool:
        return self._signal(signal.SIGKILL, step) != 0

    def worker_ended(self, step: Step) -> bool:
        return self._signal(signal.SIGTERM, step) != 0

    def worker_stopped(self, step: Step) -> bool:
        """For longer than its lease, or not quite."""
        pid = self._signal(signal.SIGSTOP, step)
        time.sleep((0.5 + step.how) * LEASE_SECONDS)
        self._signal(signal.SIGCONT, step, pid)
        return pid != 0

    def agent_killed(self, step: Step) -> bool:
        """In a container that waits, starts, runs or ends."""
        return _kill(agents(self._stack.first_uid), step)

    def runtime_killed(self, step: Step) -> bool:
        """The processes between a container and the worker that made it."""
        if self._stack.engine is not None:
            return _kill(self._stack.engine.processes(*RUNTIMES), step)
        return _kill(launching(self._stack.crew.pids() if self._stack.crew else ()), step)

    def engine_killed(self, step: Step) -> None:
        """Its daemon alone: the containers run on until another one ends them."""
        assert self._stack.engine is not None
        self._stack.engine.kill()
        time.sleep(2 * step.how)
        self._stack.engine.start()

    def engine_crashed(self, step: Step) -> None:
        """All its processes, and those in its containers, as when the host dies."""
        assert self._stack.engine is not None
        self._stack.engine.kill(everything=True)
        for agent in agents(self._stack.first_uid):
            with suppress(psutil.NoSuchProcess):  # it has ended with the engine
                agent.kill()
        time.sleep(2 * step.how)
        self._stack.engine.start()

    def redis_killed(self, step: Step) -> None:
        self._stack.redis.stop(signal.SIGKILL)
        self._stack.redis.start()

    def api_killed(self, step: Step) -> None:
        if self._stack.api is not None:
            self._stack.api.stop(signal.SIGKILL)
        self._stack.start_api()

    def connections_cut(self, step: Step) -> None:
        self._proxy.cut()

    def connections_half_closed(self, step: Step) -> None:
        self._proxy.half_close()

    def network_stalled(self, step: Step) -> None:
        self._proxy.hold()
        time.sleep((0.2 + 1.3 * step.how) * LEASE_SECONDS)
        self._proxy.flow()

    def answers_lost(self, step: Step) -> None:
        self._proxy.cut_chance = 0.05
        time.sleep(0.5 + 1.5 * step.how)
        self._proxy.cut_chance = 0.0

    def network_slow(self, step: Step) -> None:
        self._proxy.delay_seconds = 0.05
        time.sleep(0.5 + 1.5 * step.how)
        self._proxy.delay_seconds = 0.0

    def _signal(self, number: int, step: Step, only: int | None = None) -> int:
        """Send a signal to one worker, or ``only`` that one if it is alive; its pid, 0 if there is none."""

        def chosen(pids: list[int]) -> list[int]:
            mine = [pid for pid in pids if pid != self.spared]
            return [pid for pid in mine if pid == only] if only is not None else _one(mine, step)

        hit = self._stack.crew.signal(number, chosen) if self._stack.crew is not None else []
        return hit[0] if hit else 0


def _one(found: list[T], step: Step) -> list[T]:
    return [found[int(step.which * len(found))]] if found else []


def _kill(found: list[psutil.Process], step: Step) -> bool:
    """Kill one of those, unless it has ended meanwhile."""
    for process in _one(sorted(found, key=lambda process: process.pid), step):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            return False
        return True
    return False


def mix(stack: Installation, seconds: float, seed: int) -> Report:
    """A random mixture of faults under load, for so long, and until a few have been injected."""
    proxy = Proxy(stack.redis.socket, seed)
    stack.env["MAYFLY_REDIS_URL"] = proxy.url
    mixture = Mixture(stack, proxy)
    try:
        crew = stack.begin(WORKERS, fates(seed))
        load = Load(stack, CLIENTS, seed)
        eventually(lambda: load.reported, "the first execution has ended", 120)
        until = time.monotonic() + seconds
        for step in plan(seed, BY_DRIVER[stack.driver]):
            is_enough = time.monotonic() > until and mixture.done.total() >= LEAST_FAULTS
            if is_enough or not load.busy:
                break
            mixture.inject(step)
        crew.spare()
        load.stop()
        found = load.refused + stack.check(load.accepted)
        faults = mixture.done + Counter({f"worker killed: {step}": count for step, count in crew.deaths().items()})
        return Report(len(load.accepted), faults, load.again, found)
    finally:
        mixture.close()
        proxy.close()
