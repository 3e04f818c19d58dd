"""Authentication: API keys, and the tenant and scopes of each."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from datetime import UTC, datetime

from pydantic import Field, ValidationError

from orchestrator.errors import Forbidden, NotFound, Unauthenticated
from orchestrator.models import Frozen, Name
from orchestrator.store import Store, keys

SCOPES = (
    "executions:write", "executions:read", "blobs:write", "fleet:read", "fleet:write", "security:read", "audit:read",
    "admin", "metrics", "mcp",
)  # fmt: skip
KEY_PREFIX = "mfk_"
DEFAULT_TENANT = "default"
# KEYS: the key's digest, all keys. Returns the stored key with that digest, or nothing.
FIND = """
local id = redis.call('GET', KEYS[1])
return id and redis.call('HGET', KEYS[2], id)
"""


class NewKey(Frozen):
    """The request for a new API key."""

    name: Name
    tenant: Name = DEFAULT_TENANT
    scopes: tuple[str, ...] = Field(min_length=1, max_length=len(SCOPES))


class ApiKey(Frozen):
    """An API key without its secret."""

    id: str
    name: str
    tenant: Name
    scopes: tuple[str, ...]
    created_at: datetime


class Principal(Frozen):
    """The authenticated caller of a request."""

    key_id: str
    tenant: str
    scopes: frozenset[str]

    def has(self, scope: str) -> bool:
        """Whether the key has ``scope``; ``admin`` has all."""
        return scope in self.scopes or "admin" in self.scopes

    def require(self, scope: str) -> None:
        """Raise :class:`Forbidden` unless the key has ``scope``."""
        if not self.has(scope):
            raise Forbidden(f"This call needs the scope {scope!r}; the API key does not have it.")


class ApiKeys:
    """API keys, kept as SHA-256 digests of random 256-bit secrets, which need no slow hash."""

    def __init__(self, store: Store, admin_key: str | None) -> None:
        self._redis = store.redis
        self._find = store.redis.script(FIND)
        self._admin_digest = None if admin_key is None else _digest(admin_key)

    def admin(self, authorization: str | None) -> Principal | None:
        """The admin's principal for the admin key, without a look-up. Raises :class:`Unauthenticated` without a key."""
        if self._admin_digest is None or not hmac.compare_digest(_digest(_token(authorization)), self._admin_digest):
            return None
        return Principal(key_id="admin", tenant=DEFAULT_TENANT, scopes=frozenset({"admin"}))

    def authenticate(self, authorization: str | None) -> Principal:
        """The principal behind an ``Authorization`` header. Raises :class:`Unauthenticated`."""
        if (admin := self.admin(authorization)) is not None:
            return admin
        stored = self._find(keys=[keys.api_key(_digest(_token(authorization))), keys.API_KEYS])
        key = _key(stored) if stored else None
        if key is None:
            raise Unauthenticated("This API key is not known, or has been revoked.", wrong_key=True)
        return Principal(key_id=key.id, tenant=key.tenant, scopes=frozenset(key.scopes))

    def create(self, wanted: NewKey) -> tuple[ApiKey, str]:
        """A new key and its secret, which is not stored."""
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(
            id=secrets.token_hex(8),
            name=wanted.name,
            tenant=wanted.tenant,
            scopes=wanted.scopes,
            created_at=datetime.now(UTC),
        )
        digest = _digest(secret)
        stored = {**key.model_dump(mode="json")}
        with self._redis.pipeline() as pipe:
            pipe.hset(keys.API_KEYS, key.id, json.dumps(stored))
            pipe.hset(keys.API_KEY_DIGESTS, key.id, digest)
            pipe.set(keys.api_key(digest), key.id)
            pipe.execute()
        return key, secret

    def all(self) -> list[ApiKey]:
        """Every key but the admin's, oldest first."""
        found = [key for raw in self._redis.hvals(keys.API_KEYS) if (key := _key(raw))]
        return sorted(found, key=lambda key: key.created_at)

    def revoke(self, id: str) -> None:
        """A key stops working at once. Raises :class:`NotFound`."""
        digest = self._redis.hget(keys.API_KEY_DIGESTS, id)
        if digest is None:
            raise NotFound(f"There is no API key {id!r}.")
        with self._redis.pipeline() as pipe:
            pipe.delete(keys.api_key(digest.decode()))
            pipe.hdel(keys.API_KEYS, id)
            pipe.hdel(keys.API_KEY_DIGESTS, id)
            pipe.execute()


def _key(stored: bytes) -> ApiKey | None:
    """A key from Redis; ``None`` for a key that Mayfly did not make, whose tenant might be a path."""
    try:
        return ApiKey.model_validate_json(stored)
    except ValidationError:
        return None


def _token(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated()
    return token.strip()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
