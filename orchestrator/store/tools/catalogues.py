"""The catalogues of every tenant's tool servers, from the brokers' last lists, and the history of their changes."""

from __future__ import annotations

import threading
from typing import Any

from orchestrator.errors import StoreFull, TenantStoreFull
from orchestrator.models.tool_servers import CatalogueChange
from orchestrator.models.tools import Catalogue
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.malformed import MALFORMED, report_malformed

MOST_CHANGES = 200  # kept of one tenant; each has up to some 64 KiB
MOST_CACHED = 1000  # tenants
NO_TENANT_ROOM = (
    "The catalogue has {size} bytes, beyond the tenant's share of Redis: delete ended executions, or "
    "name the tools that are needed in the declaration's `tools`."
)
NO_ROOM = "The catalogue has {size} bytes, and Redis has no room for it."


class Catalogues:
    """Catalogues by tenant. Thread-safe; each process keeps catalogues until a version counter changes."""

    def __init__(self, connection: StoreConnection, share: float, tenant_share: float) -> None:
        """``share``: the part of Redis's ``maxmemory`` that may be filled; ``tenant_share``: one tenant's part of that,
        which a tenant's executions, catalogues and changes of catalogues fill together.
        """
        self._redis: Any = connection
        self._share, self._tenant_share = share, tenant_share
        self._put = connection.script(scripts.PUT_CATALOGUE)
        self._cached: dict[str, tuple[bytes, tuple[Catalogue, ...]]] = {}
        self._lock = threading.Lock()

    def put(
        self, tenant: str, catalogue: Catalogue, broker: str | None = None, change: CatalogueChange | None = None
    ) -> bool:
        """Write a catalogue, and its change to the history. ``False`` if another broker now serves the server.

        Raises :class:`TenantStoreFull` and :class:`StoreFull`; then nothing was written. The catalogue of a server that
        is down has the stored tools, so it can always be written.
        """
        idempotent = [tool.name for tool in catalogue.tools if tool.hints.idempotent]
        text = catalogue.model_dump_json()
        args = [
            broker or "", tenant, catalogue.server, text,
            change.model_dump_json() if change else "", MOST_CHANGES, self._share, self._tenant_share,
            int(catalogue.state == "down") or "", *idempotent,
        ]  # fmt: skip
        answer = self._put(args=args)
        if answer == 2:
            raise TenantStoreFull(message=NO_TENANT_ROOM.format(size=len(text)))
        if answer == 3:
            raise StoreFull(NO_ROOM.format(size=len(text)))
        return bool(answer)

    def of(self, tenant: str) -> tuple[Catalogue, ...]:
        """The tenant's catalogues by server name. Costs one small round trip while nothing changes."""
        version = self._redis.get(keys.tool_catalogues_version(tenant)) or b""
        cached = self._cached.get(tenant)
        if cached and cached[0] == version:
            return cached[1]
        found = []
        for server, text in sorted(self._redis.hgetall(keys.tool_catalogues(tenant)).items()):
            try:
                found.append(Catalogue.model_validate_json(text))
            except MALFORMED as error:
                report_malformed("catalogue", f"{server[:64]!r}: {error}")
        catalogues = tuple(found)
        with self._lock:
            if len(self._cached) >= MOST_CACHED:
                self._cached.clear()
            self._cached[tenant] = version, catalogues
        return catalogues

    def history(self, tenant: str, most: int = 100) -> tuple[CatalogueChange, ...]:
        """The last changes of the tenant's catalogues, the newest first."""
        found = []
        for _, fields in self._redis.xrevrange(keys.tool_history(tenant), count=most):
            try:
                found.append(CatalogueChange.model_validate_json(fields[b"d"]))
            except MALFORMED as error:
                report_malformed("catalogue change", error)
        return tuple(found)
