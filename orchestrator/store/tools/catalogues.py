"""The catalogues of every tenant's tool servers, as brokers last listed them, and the history of their changes."""

from __future__ import annotations

import threading
from typing import Any

from orchestrator.models.tool_servers import CatalogueChange
from orchestrator.models.tools import Catalogue
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.malformed import MALFORMED, report_malformed

MOST_CHANGES = 200  # kept of one tenant; each has up to some 64 KiB
MOST_CACHED = 1000  # tenants


class Catalogues:
    """Catalogues by tenant. Thread-safe; each process keeps catalogues until a version counter changes."""

    def __init__(self, connection: StoreConnection) -> None:
        self._redis: Any = connection
        self._put = connection.script(scripts.PUT_CATALOGUE)
        self._cached: dict[str, tuple[bytes, tuple[Catalogue, ...]]] = {}
        self._lock = threading.Lock()

    def put(
        self, tenant: str, catalogue: Catalogue, broker: str | None = None, change: CatalogueChange | None = None
    ) -> bool:
        """Write a catalogue, and its change to the history. ``False`` if another broker serves the server by now."""
        idempotent = [tool.name for tool in catalogue.tools if tool.hints.idempotent]
        args = [
            broker or "", tenant, catalogue.server, catalogue.model_dump_json(),
            change.model_dump_json() if change else "", MOST_CHANGES, *idempotent,
        ]  # fmt: skip
        return bool(self._put(args=args))

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
