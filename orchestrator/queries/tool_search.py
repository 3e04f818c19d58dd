"""Search for the tools that a caller's programs may use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from orchestrator.identity import Principal
from orchestrator.identity.authorization import authorize
from orchestrator.models.tools import Catalogue
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.tools.grants import ALL
from orchestrator.tools.index.search import Count, Found, Query, ToolIndex, search
from orchestrator.tools.signatures import Language

MOST_CACHED = 64  # indexes: of tenants, and of keys that may use only some of the tenant's tools


class _Cached(NamedTuple):
    """An index, and its sources."""

    catalogues: tuple[Catalogue, ...]
    version: bytes
    seen: bytes
    tools: ToolIndex


class ToolSearch:
    """Searches the catalogues of the caller's tenant. Thread-safe. A changed catalogue gets a new index."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._tools, self._quotas, self._key = store.tools, store.quotas, settings.secret()
        self._cached: OrderedDict[tuple[str, tuple[tuple[str, ...], ...]], _Cached] = OrderedDict()
        self._lock = threading.Lock()

    def index(self, principal: Principal) -> ToolIndex:
        """The tools for the caller's programs: the tenant's tools, without destructive tools that policy refuses, and
        without tools that the quotas of the tenant or the key exclude.

        Raises :class:`Forbidden` without the scope ``executions:read``. Costs four small round trips if the catalogues
        are unchanged.
        """
        authorize(principal, "tool.read", principal.tenant)
        tenant = principal.tenant
        own = self._quotas.bounds(tenant, principal.key_id, principal.allowed)
        bounds = tuple(allowed.tools for _, allowed in own if allowed.tools is not None)
        shown = (tenant, bounds)
        version = self._tools.servers.version()
        catalogues = self._tools.catalogues.of(tenant)
        seen = self._tools.shapes.of(tenant)
        with self._lock:
            cached = self._cached.get(shown)
            if cached is not None and cached.catalogues is catalogues and cached[1:3] == (version, seen.version):
                self._cached.move_to_end(shown)
                return cached.tools
        destructive = self._tools.servers.destructive(tenant, self._key)
        index = ToolIndex(catalogues, (ALL,), seen.shapes, destructive, bounds)
        with self._lock:
            self._cached[shown] = _Cached(catalogues, version, seen.version, index)
            while len(self._cached) > MOST_CACHED:
                self._cached.popitem(last=False)
        return index

    def search(
        self, principal: Principal, wanted: Query, *, count: Count, max_tokens: int, language: Language = "python"
    ) -> tuple[ToolIndex, Found]:
        """The best tools for a query (:func:`orchestrator.tools.index.search.search`), and the index they are from."""
        index = self.index(principal)
        return index, search(index, wanted, count=count, max_tokens=max_tokens, language=language)
