"""How many warm containers of each kind to keep. Pure: no clock, no thread, no container.

The rule: of a kind, as many as were taken within one second at the busiest moment of the last five minutes; at least
its floor, at most the ceiling; and of all kinds together no more than fit into the memory budget, where floors come
first and what does not fit shrinks in proportion. A second is what making the next ones may take; five minutes is how
long a busy hour is remembered after it.

Where there are several tenants, the last one that waits is not for who takes more than the others: a flood would take
each as soon as it is made, and have everybody else start cold.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.models import Isolation

REMEMBERED_SECONDS = 300
SHARED_SECONDS = 2.0


class Kind(NamedTuple):
    """What one warm container can be taken for."""

    environment: str
    isolation: Isolation

    def __str__(self) -> str:
        return self.environment if self.isolation == "standard" else f"{self.environment}/{self.isolation}"


class Demand:
    """How many containers of one kind were taken lately, and by whom. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._second, self._count = 0, 0
        self._peaks: deque[tuple[int, int]] = deque()  # (second, count), the higher the earlier
        self._recent: deque[tuple[float, str]] = deque()  # the takes within ``SHARED_SECONDS``
        self._taken: Counter[str] = Counter()  # how many of those are whose
        self._last: dict[str, float] = {}  # by tenant, the earliest first

    def yields(self, now: float, tenant: str) -> bool:
        """Whether a tenant leaves the last one to others, since it has just taken more than its share."""
        while self._recent and now - self._recent[0][0] >= SHARED_SECONDS:
            self._taken[self._recent.popleft()[1]] -= 1
        while self._last and now - next(iter(self._last.values())) >= REMEMBERED_SECONDS:
            gone = next(iter(self._last))
            del self._last[gone], self._taken[gone]
        return self._taken[tenant] * len(self._last) > len(self._recent)

    def note(self, now: float, tenant: str) -> None:
        """One was taken."""
        self._recent.append((now, tenant))
        self._taken[tenant] += 1
        self._last.pop(tenant, None)
        self._last[tenant] = now
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
