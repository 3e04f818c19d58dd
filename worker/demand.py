"""How many warm containers of each kind to keep. Pure: no clock, no thread, no container.

The rule: of a kind, as many as were taken within one second at the busiest moment of the last five minutes; at least
its floor, at most the ceiling; and of all kinds together no more than fit into the memory budget, where floors come
first and what does not fit shrinks in proportion. A second is what making the next ones may take; five minutes is how
long a busy hour is remembered after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.models import Isolation

REMEMBERED_SECONDS = 300


class Kind(NamedTuple):
    """What one warm container can be taken for."""

    environment: str
    isolation: Isolation

    def __str__(self) -> str:
        return self.environment if self.isolation == "standard" else f"{self.environment}/{self.isolation}"


class Demand:
    """The most containers of one kind that were taken within one second, lately. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._second, self._count = 0, 0
        self._peaks: deque[tuple[int, int]] = deque()  # (second, count), the higher the earlier

    def note(self, now: float) -> None:
        """One was taken."""
        if int(now) != self._second:
            while self._peaks and self._peaks[-1][1] <= self._count:
                self._peaks.pop()
            self._peaks.append((self._second, self._count))
            self._second, self._count = int(now), 0
        self._count += 1

    def peak(self, now: float) -> int:
        """How many were taken in the busiest second that is remembered."""
        oldest = now - REMEMBERED_SECONDS
        while self._peaks and self._peaks[0][0] < oldest:
            self._peaks.popleft()
        current = self._count if self._second >= oldest else 0
        return max(current, self._peaks[0][1] if self._peaks else 0)


class Wish(NamedTuple):
    """What is wanted of one kind: the floor, what recent demand adds to it, and the memory of one container."""

    floor: int
    extra: int
    container_bytes: int


def wish(floor: int, ceiling: int, peak: int, container_bytes: int) -> Wish:
    """The rule for one kind. A floor above the ceiling holds: somebody has chosen it."""
    return Wish(floor, max(0, min(peak, ceiling) - floor), container_bytes)


def sizes(wishes: Mapping[Kind, Wish], budget_bytes: int) -> dict[Kind, int]:
    """How many to keep of each kind; more than the floors only where all of those fit."""
    cost = {kind: one.container_bytes for kind, one in wishes.items()}
    floors = {kind: one.floor for kind, one in wishes.items()}
    kept = _shrunk(floors, cost, budget_bytes)
    if kept != floors:
        return kept
    left = budget_bytes - sum(number * cost[kind] for kind, number in kept.items())
    extras = _shrunk({kind: one.extra for kind, one in wishes.items()}, cost, left)
    return {kind: kept[kind] + extras[kind] for kind in wishes}


def _shrunk(numbers: Mapping[Kind, int], cost: Mapping[Kind, int], budget_bytes: int) -> dict[Kind, int]:
    """The numbers, or the same share of each where not all fit."""
    needed = sum(number * cost[kind] for kind, number in numbers.items())
    if needed <= budget_bytes:
        return dict(numbers)
    return {kind: number * budget_bytes // needed for kind, number in numbers.items()}
