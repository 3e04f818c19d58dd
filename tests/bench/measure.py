"""Latency, throughput and bursts, side by side.

A machine drifts within minutes, so nothing is measured to its end before the next: contestants take turns, and a ratio
is of values that were taken in the same turns.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from tests.bench.systems.child import Absent
from tests.bench.systems.contestants import COMPARED, Contestant, Field
from tests.bench.systems.mayfly import Sample
from tests.bench.systems.programs import Program

PHASES = ("queue", "start", "run", "collect")
USUAL_LEVEL = 4  # clients at a time
WARM_UP_SHARE = 0.25  # of the time of a throughput: until then containers that were made ahead help
T = TypeVar("T")


def percentile(values: list[float], share: float) -> float:
    """The smallest value such that ``share`` of all are no larger (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def summary(seconds: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    return {
        "p50_ms": statistics.median(seconds) * 1000, "p99_ms": percentile(seconds, 0.99) * 1000, "runs": len(seconds)
    }  # fmt: skip


def sustained(ends: list[float], seconds: float) -> float:
    """Runs a second, of those that ended between the warm-up and the time when no more were begun."""
    within = [end for end in ends if WARM_UP_SHARE * seconds <= end <= seconds]
    if len(within) < 3:
        return len(ends) / ends[-1]
    return (len(within) - 1) / (within[-1] - within[0])


@dataclass
class Measured:
    """All samples, by program and contestant."""

    taking_part: Field
    report_progress: Callable[[str], None]
    totals: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    cold: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    first_bytes: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    rates: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    bursts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    misses: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def latencies(self, program: Program, runs: int, turns: int, cold_runs: int) -> None:
        """Everybody's latency with one program, in turns."""
        each, each_cold = max(1, runs // turns), cold_runs // turns
        for turn in range(turns):
            self.report_progress(f"latency: {program.name}, turn {turn + 1} of {turns}")
            for one in [one for one in self.taking_part.mayfly if one.takes(program)]:
                found = one.samples(program, each)
                warm = [sample for sample in found if sample.warm]
                self.misses[one.name] += len(found) - len(warm)
                self.totals[program.name, one.name] += [sample.total for sample in warm]
                if program.name == "print":
                    self.samples[one.name] += warm
                if each_cold:
                    found = one.samples(program, each_cold, cold=True)
                    self.cold[program.name, one.name] += [sample.total for sample in found if not sample.warm]
            for other in self._able([*self.taking_part.raw, *self.taking_part.peers], program):
                fewer = each if other in self.taking_part.raw else max(1, each // 4)
                seconds = self._try(other, program, lambda other=other, n=fewer: other.latency(program, n))  # type: ignore[misc]
                self.totals[program.name, other.name] += seconds or []

    def first_byte(self, program: Program, runs: int) -> None:
        """Time to the first output over the event stream."""
        for one in self.taking_part.mayfly:
            self.report_progress(f"first byte: {one.name}")
            self.first_bytes[one.name] += one.first_byte(program, runs)

    def throughputs(self, program: Program, seconds: float, levels: Iterable[int], turns: int) -> None:
        """Everybody's throughput, in turns: at some levels of concurrency if a ratio is taken of it, else at one."""
        for turn in range(turns):
            for at_once in levels:
                self.report_progress(f"throughput: {at_once} at once, turn {turn + 1} of {turns}")
                some = [one for one in self.taking_part.everybody if at_once == USUAL_LEVEL or one.name in COMPARED]
                for one in self._able(some, program):
                    ends = self._try(
                        one, program, lambda one=one, n=at_once: one.throughput(program, seconds, n)  # type: ignore[misc]
                    )  # fmt: skip
                    if ends:
                        self.rates[one.name, at_once].append(sustained(ends, seconds))

    def burst(self, program: Program, count: int, names: Iterable[str], turns: int) -> None:
        """Time to the last of many results."""
        for _ in range(turns):
            for one in filter(None, map(self.taking_part.named, names)):
                self.report_progress(f"burst of {count}: {one.name}")
                level = self.best_level(one.name)
                seconds = self._try(one, program, lambda one=one, n=level: one.burst(program, count, n))  # type: ignore[misc]
                if seconds is not None:
                    self.bursts[one.name].append(seconds)

    def rate(self, name: str) -> float | None:
        """A contestant's mean throughput, at its best concurrency."""
        means = [statistics.mean(rates) for (owner, _), rates in self.rates.items() if owner == name]
        return max(means, default=None)

    def best_level(self, name: str) -> int:
        """The concurrency at which a contestant is fastest."""
        means = {level: statistics.mean(rates) for (owner, level), rates in self.rates.items() if owner == name}
        return max(means, key=means.__getitem__, default=USUAL_LEVEL)

    def _able(self, some: Iterable[Contestant], program: Program) -> list[Contestant]:
        return [
            one for one in some if one.takes(program) and f"{one.name}: {program.name}" not in self.taking_part.absent
        ]

    def _try(self, one: Contestant, program: Program, measure: Callable[[], T]) -> T | None:
        """A measurement; what a contestant cannot do is noted once, and not tried again."""
        try:
            return measure()
        except Absent as error:
            self.taking_part.absent[f"{one.name}: {program.name}"] = str(error)
            return None
