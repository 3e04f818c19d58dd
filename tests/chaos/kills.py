"""Kills at each step, so many times, under load on several queues."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from tests.chaos.installations.installation import PATIENCE_SECONDS, Installation, Load
from tests.chaos.installations.workers import STEPS, Fate
from tests.harness import eventually

WORKERS = 3
CLIENTS = 24
MOST_PASSES = 6


@dataclass(frozen=True)
class Report:
    """The actions of a run, and the violations afterwards."""

    executions: int
    faults: Counter[str]
    again: Counter[str]  # why clients had to try again
    violations: list[str]


def kill_at_every_step(stack: Installation, times: int, seed: int) -> Report:
    """Kill workers at every step, in an order that ``seed`` decides, while clients submit."""
    chance = random.Random(seed)
    steps = list(STEPS) * times
    chance.shuffle(steps)
    crew = stack.begin(WORKERS, (Fate(step, chance.randrange(1, MOST_PASSES)) for step in steps))
    load = Load(stack, CLIENTS, seed)
    eventually(
        lambda: crew.deaths().total() == len(steps),
        "a process was killed at every step",
        5 * len(steps) + PATIENCE_SECONDS,
    )
    load.stop()
    found = load.refused + stack.check(load.accepted)
    return Report(len(load.accepted), crew.deaths(), load.again, found)
