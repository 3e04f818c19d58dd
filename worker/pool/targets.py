"""The number of warm containers that should wait of each kind: the rule of ``demand.py`` for this worker's host."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

from orchestrator.environments import Environments
from orchestrator.models.fleet import ENVIRONMENT, ISOLATION, WARM_POOL
from orchestrator.settings import Settings
from worker.pool.demand import Demand, Kind, sizes, wish
from worker.pool.launcher import Launcher

HARDENED_BYTES = 64 * 2**20  # an estimate of gVisor's own memory, until a container has been measured


class Targets:
    """The targets of one pool. The pool calls every method under its lock."""

    def __init__(
        self, launcher: Launcher, environments: Environments, settings: Settings, is_off: Callable[[str], bool]
    ) -> None:
        self._launcher, self._environments, self._settings, self._is_off = launcher, environments, settings, is_off
        self._demand: defaultdict[Kind, Demand] = defaultdict(Demand)
        self._measured_bytes: dict[Kind, int] = {}

    def take(self, kind: Kind, tenant: str) -> bool:
        """Record a taken container. Returns whether this tenant must leave the last waiting container to others."""
        demand, now = self._demand[kind], time.monotonic()
        yields = demand.yields(now, tenant)
        demand.note(now, tenant)
        return yields

    def measure(self, kind: Kind, size_bytes: int) -> None:
        """Record the memory of a waiting container."""
        self._measured_bytes[kind] = size_bytes

    def sizes(self) -> dict[Kind, int]:
        """The targets, within the memory budget; none for what is switched off."""
        settings, now = self._settings, time.monotonic()
        wishes = {}
        for kind in (Kind(name, tier) for name in self._launcher.images for tier in self._launcher.runtimes):
            if any(map(self._is_off, (WARM_POOL, ENVIRONMENT + kind.environment, ISOLATION + kind.isolation))):
                continue
            peak = self._demand[kind].peak(now) if kind in self._demand else 0
            floor = settings.pool_size_of(kind.environment, kind.isolation)
            wishes[kind] = wish(floor, settings.pool_max, peak, self._container_bytes(kind))
        return sizes(wishes, settings.pool_memory_bytes)

    def shortfalls(self, present: Callable[[Kind], int]) -> dict[Kind, float]:
        """The missing share of each kind that can be launched; ``present``: the containers that wait or are made."""
        able = self._launcher.able()
        return {
            kind: 1 - have / number
            for kind, number in self.sizes().items()
            if (have := present(kind)) < number and kind.isolation in able
        }

    def _container_bytes(self, kind: Kind) -> int:
        estimate = self._environments[kind.environment].minimal_memory_bytes
        return self._measured_bytes.get(kind, estimate + (HARDENED_BYTES if kind.isolation == "hardened" else 0))
