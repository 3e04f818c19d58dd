"""The number of warm containers to keep of each kind. Pure: no clock, no thread, no container.

The rule: for each kind, the number taken within the busiest second of the last five minutes; at least the kind's floor,
at most the ceiling. All kinds together must fit into the memory budget: floors come first, and the additions to them
shrink in proportion. A second is the unit because making the next containers may take a second.

With several tenants, a tenant that takes more than the others does not get the last waiting container: otherwise a
flood of one tenant would take each new container, and make all other tenants start cold.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.models import Isolation

REMEMBERED_SECONDS = 300
SHARED_SECONDS = 2.0


class Kind(NamedTuple):
    """The kind of a warm container: environment and isolation."""

    environment: str
    isolation: Isolation

    def __str__(self) -> str:
        return self.environment if self.isolation == "standard" else f"{self.environment}/{self.isolation}"


class Demand:
    """The recently taken containers of one kind, by tenant. Times are seconds of a single clock."""

    def __init__(self) -> None:
        self._second, self._count = 0, 0
        self._peaks: deque[tuple[int, int]] = deque()  # (second, count): counts fall, seconds rise
        self._recent: deque[tuple[float, str]] = deque()  # the takes within ``SHARED_SECONDS``
        self._taken: Counter[str] = Counter()  # their number by tenant
        self._last: dict[str, float] = {}  # the time of each tenant's last take, the earliest first

    def yields(self, now: float, tenant: str) -> bool:
        """Whether a tenant must leave the last container to others, since it has just taken more than its share."""
        while self._recent and now - self._recent[0][0] >= SHARED_SECONDS:
            self._taken[self._recent.popleft()[1]] -= 1
        while self._last and now - next(iter(self._last.values())) >= REMEMBERED_SECONDS:
            gone = next(iter(self._last))
            del self._last[gone], self._taken[gone]
        return self._taken[tenant] * len(self._last) > len(self._recent)

    def note(self, now: float, tenant: str) -> None:
        """Record a taken container."""
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
        """The number taken in the busiest remembered second."""
        oldest = now - REMEMBERED_SECONDS
        while self._peaks and self._peaks[0][0] < oldest:
            self._peaks.popleft()
        current = self._count if self._second >= oldest else 0
        return max(current, self._peaks[0][1] if self._peaks else 0)


class Wish(NamedTuple):
    """The target for one kind: the floor, the addition by recent demand, and the memory of one container."""

    floor: int
    extra: int
    container_bytes: int


def wish(floor: int, ceiling: int, peak: int, container_bytes: int) -> Wish:
    """The rule for one kind. A floor above the ceiling is kept, since the operator chose it."""
    return Wish(floor, max(0, min(peak, ceiling) - floor), container_bytes)


def sizes(wishes: Mapping[Kind, Wish], budget_bytes: int) -> dict[Kind, int]:
    """The number to keep of each kind; more than the floors only if all floors fit."""
    cost = {kind: one.container_bytes for kind, one in wishes.items()}
    floors = {kind: one.floor for kind, one in wishes.items()}
    kept = _shrunk(floors, cost, budget_bytes)
    if kept != floors:
        return kept
    left = budget_bytes - sum(number * cost[kind] for kind, number in kept.items())
    extras = _shrunk({kind: one.extra for kind, one in wishes.items()}, cost, left)
    return {kind: kept[kind] + extras[kind] for kind in wishes}


def _shrunk(numbers: Mapping[Kind, int], cost: Mapping[Kind, int], budget_bytes: int) -> dict[Kind, int]:
    """The numbers, reduced in proportion if they do not fit."""
    needed = sum(number * cost[kind] for kind, number in numbers.items())
    if needed <= budget_bytes:
        return dict(numbers)
    return {kind: number * budget_bytes // needed for kind, number in numbers.items()}
