"""Bounds on concurrent live streams, large bodies and large answers: for each tenant, and in total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.errors import MayflyError


class InFlight:
    """Counts concurrent transfers. Used only by the event loop's thread.

    ``tenant_bound`` and ``bound`` are pairs of the largest number, for each tenant or in total, and its error.
    """

    def __init__(
        self, tenant_bound: tuple[int, type[MayflyError]], bound: tuple[int, type[MayflyError]] | None = None
    ) -> None:
        self._tenant_bound, self._bound = tenant_bound, bound
        self._counts: Counter[str] = Counter()  # of tenants that have any

    @contextmanager
    def counted(self, tenant: str) -> Iterator[None]:
        """Count a transfer until the context ends. Raises the error of the reached bound, the tenant's first."""
        most, error = self._tenant_bound
        if self._counts[tenant] >= most:
            raise error(bound=most)
        if self._bound is not None and self._counts.total() >= self._bound[0]:
            raise self._bound[1](bound=self._bound[0])
        self._counts[tenant] += 1
        try:
            yield
        finally:
            self._counts[tenant] -= 1
            if not self._counts[tenant]:
                del self._counts[tenant]

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants with transfers in progress; inactive tenants are not kept."""
        return frozenset(self._counts)
