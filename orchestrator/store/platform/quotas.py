"""Quotas in Redis, and their cache in each process.

The script of a submission checks and counts quotas, with the numbers that the API passes from its cache, and their
version. The script refuses an outdated version and answers with the current quotas, and the submission is repeated. So
a change applies to the next submission in every process, and a submission takes one round trip.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from orchestrator.models.tenants.allowed import Allowed, Bounds
from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas, overlaid
from orchestrator.store import keys, scripts
from orchestrator.store.allowance import Allowance, Known
from orchestrator.store.connection import StoreConnection
from orchestrator.store.malformed import report_malformed

DAY_SECONDS = 86400
VERSION_BYTES = 8
MOST_KNOWN = 10_000  # tenants and keys whose quotas a process caches
TENANT, KEY = "t", "k"
Q = TypeVar("Q", bound=KeyQuotas)


class Use(NamedTuple):
    """The current use of quotas; ``accepted``, ``cpu_microseconds`` and ``tool_calls`` of today, by Redis's clock."""

    queued: int
    active: int
    reserved_microseconds: int
    accepted: int
    cpu_microseconds: int
    stored_bytes: int
    tool_calls: int = 0


class Quotas:
    """Reads, writes and caches quotas. Thread-safe."""

    def __init__(self, connection: StoreConnection, tenants: TenantQuotas, api_keys: KeyQuotas) -> None:
        """``tenants``, ``api_keys``: the default quotas."""
        self._redis: Any = connection
        self._put = connection.script(scripts.PUT_QUOTAS)
        self._tenants, self._keys = tenants, api_keys
        self._known: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, tenant: str, key: str) -> Allowance:
        """The cached quotas, without a query."""
        with self._lock:
            raw = [self._known.get(name, b"") for name in (TENANT + tenant, KEY + key)]
        return Allowance(_read(raw[0], self._tenants), _read(raw[1], self._keys))

    def learn(self, tenant: str, key: str, current: tuple[bytes, bytes]) -> None:
        """Cache the current quotas."""
        with self._lock:
            for name, raw in zip((TENANT + tenant, KEY + key), current, strict=True):
                self._known.pop(name, None)
                if raw:
                    self._known[name] = raw
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)

    def refresh(self, tenant: str, key: str) -> bool:
        """Read the current quotas; true if the cached quotas were outdated."""
        before = self.known(tenant, key)
        return before != self.current(tenant, key)

    def current(self, tenant: str, key: str) -> Allowance:
        """Read the current quotas."""
        found = self._redis.hmget(keys.QUOTAS, TENANT + tenant, KEY + key)
        self.learn(tenant, key, (found[0] or b"", found[1] or b""))
        return self.known(tenant, key)

    def bounds(self, tenant: str, key: str | None, account: Allowed | None) -> Bounds:
        """The currently permitted names of a principal; ``account``: the bounds of its service account."""
        return self.current(tenant, key or "").bounds(account)

    def of_tenant(self, tenant: str) -> TenantQuotas:
        """The quotas of a tenant, defaults included."""
        return _read(self._redis.hget(keys.QUOTAS, TENANT + tenant) or b"", self._tenants).quotas

    def of_key(self, key: str) -> KeyQuotas:
        """The quotas of an API key, defaults included."""
        return _read(self._redis.hget(keys.QUOTAS, KEY + key) or b"", self._keys).quotas

    def use_of_tenant(self, tenant: str) -> Use:
        """The current use by a tenant."""
        return self._use(keys.tenant_counters(tenant), keys.tenant_room(tenant))

    def use_of_key(self, key: str) -> Use:
        """The current use by an API key."""
        return self._use(keys.key_counters(key), keys.key_counters(key))

    def _use(self, counters: str, room: str) -> Use:
        fields = ("queued", "active", "reserved", "accepted", "cpu", "day", "calls", "calls_day")
        found = (int(float(number or 0)) for number in self._redis.hmget(counters, fields))
        queued, active, reserved, accepted, cpu, day, calls, calls_day = found
        today = self._redis.time()[0] // DAY_SECONDS
        if day != today:
            accepted = cpu = 0
        stored = sum(int(part or 0) for part in self._redis.hmget(room, "bytes", "files"))
        return Use(queued, active, reserved, accepted, cpu, stored, calls if calls_day == today else 0)

    def put_tenant(self, tenant: str, quotas: TenantQuotas, audit: str = "") -> TenantQuotas:
        """Replace the quotas of a tenant; unset fields have the defaults. Returns the effective quotas."""
        whole = TenantQuotas.model_validate(overlaid(self._tenants, quotas))
        bounds = ["" if number is None else number for number in (whole.running, whole.weight)]
        self._put(args=[TENANT + tenant, written(quotas), *bounds, audit])
        return whole

    def put_key(self, key: str, quotas: KeyQuotas, audit: str = "") -> KeyQuotas:
        """Replace the quotas of an API key, in the same way."""
        whole = KeyQuotas.model_validate(overlaid(self._keys, quotas))
        self._put(args=[KEY + key, written(quotas), "" if whole.running is None else whole.running, "", audit])
        return whole


def written(quotas: KeyQuotas) -> str:
    """The stored form of quotas, after a new version; empty for quotas that only have defaults."""
    own = quotas.model_dump(mode="json", exclude_unset=True)
    return f"{secrets.token_hex(VERSION_BYTES // 2)}{json.dumps(own)}" if own else ""


def _read(raw: bytes, base: Q) -> Known[Q]:
    """Stored quotas. Malformed quotas, which only another writer makes, count as unset."""
    if not raw:
        return Known("", base)
    version = raw[:VERSION_BYTES].decode(errors="replace")
    try:
        own = type(base).model_validate_json(raw[VERSION_BYTES:])
        return Known(version, type(base).model_validate(overlaid(base, own)))
    except ValidationError as error:
        report_malformed("quotas", str(error))
        return Known(version, base)
