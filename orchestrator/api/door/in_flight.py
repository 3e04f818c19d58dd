"""Bounds on concurrent live streams, large bodies and large answers: for each tenant, and in total.

A tenant that has transfers in progress gets another only if as many places as it then has were free. So the places of a
few tenants, which may be slow for as long as the least rates allow, never add up to all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.errors import MayflyError, Unavailable

UNBOUNDED = (float("inf"), Unavailable)


class InFlight:
    """Counts concurrent transfers. Used only by the event loop's thread.

    ``tenant_bound`` and ``bound`` are pairs of the largest number, for each tenant or in total, and its error.
    """

    def __init__(
        self, tenant_bound: tuple[int, type[MayflyError]], bound: tuple[float, type[MayflyError]] = UNBOUNDED
    ) -> None:
        self._tenant_bound, self._bound = tenant_bound, bound
        self._counts: Counter[str] = Counter()  # of tenants that have any

    @contextmanager
    def counted(self, tenant: str, size: int = 1) -> Iterator[None]:
        """Count a transfer until the context ends, by its size. Raises the error of the bound, the tenant's first."""
        (most, error), (bound, full) = self._tenant_bound, self._bound
        count, left = self._counts[tenant], bound - self._counts.total()
        if count + size > most:
            raise error(bound=most)
        if size > left or (count and count + size > left):
            raise full(bound=bound)
        self._counts[tenant] += size
        try:
            yield
        finally:
            self._counts[tenant] -= size
            if not self._counts[tenant]:
                del self._counts[tenant]

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants with transfers in progress; inactive tenants are not kept."""
        return frozenset(self._counts)
