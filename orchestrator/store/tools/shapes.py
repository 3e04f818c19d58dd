"""The shapes of earlier results of tools without an output schema, by tenant: JSON Schemas without values.

Shapes are hints for signatures, without a seal: a forged shape only makes a signature wrong.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator.models.tools import Schema
from orchestrator.store import keys
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

    def __init__(self, connection: StoreConnection) -> None:
        self._redis: Any = connection
        self._cached: dict[str, Seen] = {}
        self._lock = threading.Lock()

    def put(self, tenant: str, full_name: str, shape: Schema) -> bool:
        """Write the shape of a tool; ``False`` if it is too large, or if there are too many."""
        text = json.dumps(shape)
        shapes, version = keys.tool_shapes(tenant), keys.tool_shapes_version(tenant)
        if len(text) > MOST_CHARACTERS:
            return False
        if self._redis.hlen(shapes) >= MOST_SHAPES and not self._redis.hexists(shapes, full_name):
            return False
        with self._redis.pipeline() as pipe:
            pipe.hset(shapes, full_name, text)
            pipe.expire(shapes, KEPT_SECONDS)
            pipe.incr(version)
            pipe.expire(version, KEPT_SECONDS)
            pipe.execute()
        return True

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
