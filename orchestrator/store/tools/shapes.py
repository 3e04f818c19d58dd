"""The shapes of earlier results of tools without an output schema, by tenant: JSON Schemas without values.

Shapes are hints for signatures, without a seal: a forged shape only makes a signature wrong.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator.models.tools import Schema
from orchestrator.store import keys, scripts
from orchestrator.store.connection import StoreConnection
from orchestrator.store.malformed import MALFORMED, report_malformed

MOST_SHAPES = 1000  # of one tenant; further tools have none
MOST_CHARACTERS = 8 * 1024  # of a shape
KEPT_SECONDS = 30 * 86_400  # after the last new shape of the tenant
MOST_CACHED = 1000  # tenants


class Seen(NamedTuple):
    """The shapes of a tenant by full names of tools; ``version`` differs after each change."""

    version: bytes = b""
    shapes: Mapping[str, Schema] = {}


class Shapes:
    """Shapes by tenant. Thread-safe; each process keeps shapes until a version counter changes."""

    def __init__(self, connection: StoreConnection, share: float, tenant_share: float) -> None:
        """``share`` and ``tenant_share`` are as of :class:`.catalogues.Catalogues`: shapes count as catalogues do."""
        self._redis: Any = connection
        self._share, self._tenant_share = share, tenant_share
        self._put = connection.script(scripts.PUT_SHAPE)
        self._cached: dict[str, Seen] = {}
        self._lock = threading.Lock()

    def put(self, tenant: str, full_name: str, shape: Schema) -> bool:
        """Write the shape of a tool; ``False`` if it is too large, if there are too many, or if the tenant's share of
        Redis has no room. Raises :class:`StoreFull`; then nothing was written.
        """
        text = json.dumps(shape)
        if len(text) > MOST_CHARACTERS:
            return False
        args = [tenant, full_name, text, MOST_SHAPES, KEPT_SECONDS, self._share, self._tenant_share]
        return bool(self._put(args=args))

    def of(self, tenant: str) -> Seen:
        """The tenant's shapes. Costs one small round trip while nothing changes."""
        version = self._redis.get(keys.tool_shapes_version(tenant)) or b""
        cached = self._cached.get(tenant)
        if cached is not None and cached.version == version:
            return cached
        found: dict[str, Schema] = {}
        for name, text in self._redis.hgetall(keys.tool_shapes(tenant)).items() if version else ():
            try:
                shape = json.loads(text)
                if not isinstance(shape, dict) or len(text) > MOST_CHARACTERS:
                    raise ValueError("no shape")
                found[name.decode()] = shape
            except MALFORMED as error:
                report_malformed("shape of results", f"{name[:64]!r}: {error}")
        seen = Seen(version, found)
        with self._lock:
            if len(self._cached) >= MOST_CACHED:
                self._cached.clear()
            self._cached[tenant] = seen
        return seen
