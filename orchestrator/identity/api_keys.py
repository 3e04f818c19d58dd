"""API keys: creation, look-up, lists, revocation.

Redis has SHA-256 digests of the secrets, which are 256 random bits and need no slow hash. Each record is sealed
together with its digest. Redis itself deletes a key at its expiry. The script that looks up a key records its use, at
most once a minute.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from pydantic import Field, ValidationError

from orchestrator.errors import (
    IdempotencyConflict,
    NotFound,
    TooManyRecords,
    Unauthenticated,
    ValidationFailed,
)
from orchestrator.identity import REFUSAL, SCOPES, Principal
from orchestrator.identity.seals import Seals
from orchestrator.identity.tenants import account_of, check_state
from orchestrator.models import Frozen, Name
from orchestrator.models.key_format import is_mistyped, new_secret
from orchestrator.models.tenants.quotas import KeyQuotas
from orchestrator.models.tenants.records import DEFAULT_TENANT, MOST_KEYS
from orchestrator.queries import cursors
from orchestrator.store import Store, keys, scripts
from orchestrator.store.platform.quotas import written

MOST_SECONDS = 10 * 366 * 86400.0
REQUEST_SECONDS = 24 * 3600  # for which an Idempotency-Key is remembered
USE_SECONDS = 60  # in which a use is recorded once
MOST_OPENED = 1024  # keys whose seals and records are not checked again while Redis has the same bytes
LIST_ID = cursors.list_id("api-keys")


class NewKey(Frozen):
    """The request for a new API key."""

    name: Name
    tenant: Name | None = Field(None, description="Null: the caller's own.")
    service_account: Name | None = Field(None, description="The service account that owns the key.")
    scopes: tuple[str, ...] = Field(min_length=1, max_length=len(SCOPES))
    quotas: KeyQuotas = Field(KeyQuotas(), description="The budget of the key, and the names that the key may use.")
    expires_in: float | None = Field(
        None, gt=0, le=MOST_SECONDS, allow_inf_nan=False, description="Seconds until the key expires. Null: never."
    )


class ApiKey(Frozen):
    """An API key without its secret."""

    id: str
    name: str
    tenant: Name
    service_account: Name | None = None
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str | None = Field(None, description="The principal that made the key.")
    expires_at: datetime | None = None
    last_used_at: datetime | None = Field(None, description="The last use, exact to a minute; null: never used.")


class Request(NamedTuple):
    """The Idempotency-Key of a request for a key, and the digest of its body."""

    principal: str
    key: str
    digest: str


def not_audited(id: str) -> str:
    """No entry of the audit log."""
    return ""


class ApiKeys:
    """The API keys of every tenant. Thread-safe."""

    def __init__(self, store: Store, admin_key: str | None, secret: bytes) -> None:
        self._redis, self._secret, self._seals = store.redis, secret, Seals(secret)
        self._opened = lru_cache(MOST_OPENED)(self._valid)
        self._find = store.redis.script(scripts.FIND_KEY)
        self._create, self._revoke = store.redis.script(scripts.CREATE_KEY), store.redis.script(scripts.REVOKE_KEY)
        self._admin_digest = None if admin_key is None else _digest(admin_key)
        self._admin = Principal(id="key:admin", key_id="admin", tenant=DEFAULT_TENANT, scopes=frozenset({"admin"}))

    def admin(self, authorization: str | None) -> Principal | None:
        """The admin's principal for the admin key, without a look-up. Raises :class:`Unauthenticated` without a key."""
        if self._admin_digest is None or not hmac.compare_digest(_digest(token_of(authorization)), self._admin_digest):
            return None
        return self._admin

    def authenticate(self, authorization: str | None) -> Principal:
        """The principal of an ``Authorization`` header. Raises :class:`Unauthenticated` and
        :class:`TenantDisabled`.
        """
        if (admin := self.admin(authorization)) is not None:
            return admin
        token = token_of(authorization)
        found = None
        if not is_mistyped(token):
            found = self._find(keys=[keys.api_key(_digest(token))], args=[USE_SECONDS])
        stored, state, owner = found or (b"", b"", b"")
        key, account = self._opened(stored, _digest(token)), account_of(owner)
        if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
            raise Unauthenticated(REFUSAL, wrong_key=True)
        if key.service_account and (account is None or account.state != "active"):
            raise Unauthenticated(REFUSAL, wrong_key=True)
        check_state(state)
        return Principal(
            id=f"key:{key.id}",
            key_id=key.id,
            tenant=key.tenant,
            scopes=frozenset(key.scopes),
            allowed=account and account.allowed,
        )

    def create(
        self,
        wanted: NewKey,
        created_by: str | None = None,
        request: Request | None = None,
        audit: Callable[[str], str] = not_audited,
    ) -> tuple[ApiKey, str]:
        """A new key and its secret, which is not stored; the same key and secret for a repeated request.

        ``audit`` makes the entry of the audit log for the key's id.

        Raises :class:`IdempotencyConflict` for another body, :class:`NotFound` for a key that was revoked since and for
        an unknown tenant, :class:`ValidationFailed` for an unknown service account, and :class:`TooManyRecords`.
        """
        now, nonce = datetime.now(UTC), secrets.token_hex(32)
        expires_at = None if wanted.expires_in is None else now + timedelta(seconds=wanted.expires_in)
        fields = wanted.model_dump(exclude={"expires_in", "quotas"}) | {"tenant": wanted.tenant or DEFAULT_TENANT}
        key = ApiKey(**fields, id=secrets.token_hex(8), created_at=now, created_by=created_by, expires_at=expires_at)
        digest = _digest(secret := self._secret_of(nonce, request))
        names = [keys.api_key(digest)]
        remembered = {"id": key.id, "nonce": nonce}
        if request is not None:
            names.append(keys.api_key_request(request.principal, request.key))
            remembered["digest"] = request.digest
        left = "" if wanted.expires_in is None else max(1, round(wanted.expires_in * 1000))
        stored = self._seals.seal("key", f"{digest} {key.model_dump_json(exclude={'last_used_at'})}")
        answer = self._create(
            keys=names,
            args=[
                key.id, stored, digest, left, json.dumps(remembered), REQUEST_SECONDS, key.tenant,
                key.service_account or "", MOST_KEYS, written(wanted.quotas), audit(key.id),
            ],
        )  # fmt: skip
        match answer:
            case [b"seen", seen]:
                return self._again(json.loads(seen), request)
            case [b"tenant"]:
                raise NotFound(f"There is no tenant {key.tenant!r}.")
            case [b"account"]:
                message = f"{key.service_account!r} is no service account of tenant {key.tenant!r}; create it first"
                raise ValidationFailed([("service_account", message)], "unknown_service_account")
            case [b"full"]:
                raise TooManyRecords(bound=MOST_KEYS)
        return key, secret

    def page(self, limit: int, cursor: str | None, tenant: str | None = None) -> tuple[list[ApiKey], str | None]:
        """All keys except the admin's, oldest first, and the cursor of the next; ``tenant``: only of that tenant.

        Raises :class:`ValidationFailed`.
        """
        after = (0.0, "") if cursor is None else cursors.opened(cursor, LIST_ID, _position)
        found = sorted(
            (key.created_at.timestamp(), key.id, key) for raw in self._stored(tenant) if (key := self._key(raw))
        )
        rest = [row for row in found if row[:2] > after]
        uses = self._redis.hmget(keys.API_KEY_USES, [id for _, id, _ in rest[:limit]]) if rest else []
        items = [
            key.model_copy(update={"last_used_at": datetime.fromtimestamp(int(use), UTC) if use else None})
            for (_, _, key), use in zip(rest, uses, strict=False)
        ]
        return items, cursors.closed(LIST_ID, *rest[limit - 1][:2]) if len(rest) > limit else None

    def get(self, id: str) -> ApiKey:
        """One key. Raises :class:`NotFound`."""
        stored = self._redis.hget(keys.API_KEYS, id)
        if stored is None or (key := self._key(stored)) is None:
            raise NotFound(f"There is no API key {id!r}.")
        return key

    def of_account(self, tenant: str, name: str) -> list[ApiKey]:
        """The keys that a service account owns."""
        found = (self._key(raw) for raw in self._stored(tenant))
        return [key for key in found if key is not None and key.service_account == name]

    def revoke(self, id: str, tenant: str, entry: str = "") -> bool:
        """Revoke a key of a tenant at once; ``False`` for an unknown key. ``entry``: of the audit log."""
        return bool(self._revoke(args=[id, tenant, entry]))

    def _stored(self, tenant: str | None) -> list[bytes]:
        if tenant is None:
            return list(self._redis.hvals(keys.API_KEYS))
        ids = self._redis.smembers(keys.tenant_keys(tenant))
        return [raw for raw in self._redis.hmget(keys.API_KEYS, ids) if raw] if ids else []

    def _again(self, seen: dict[str, str], request: Request | None) -> tuple[ApiKey, str]:
        if request is None or seen["digest"] != request.digest:
            raise IdempotencyConflict()
        stored = self._redis.hget(keys.API_KEYS, seen["id"])
        if stored is None or (key := self._key(stored)) is None:
            raise NotFound("The API key that was made for this Idempotency-Key has been revoked.")
        return key, self._secret_of(seen["nonce"], request)

    def _secret_of(self, nonce: str, request: Request | None) -> str:
        """The key of a nonce and a request: that request gets it again, and no other request with the same nonce."""
        asked = "" if request is None else f"{request.principal} {request.key}"
        made = hmac.digest(self._secret, f"api key {nonce} {asked}".encode(errors="replace"), "sha256")
        return new_secret(int.from_bytes(made, "big"))

    def _valid(self, stored: bytes, digest: str) -> ApiKey:
        """A key from Redis with that ``digest``. Raises :class:`Unauthenticated`."""
        if (key := self._key(stored, digest)) is None:
            raise Unauthenticated(REFUSAL, wrong_key=True)
        return key

    def _key(self, stored: bytes, digest: str | None = None) -> ApiKey | None:
        """A key from Redis, if Mayfly made it, and with that ``digest`` if it is given."""
        own, _, text = (self._seals.opened("key", stored) or b"").partition(b" ")
        if digest is not None and own != digest.encode():
            return None
        try:
            return ApiKey.model_validate_json(text)
        except ValidationError:
            return None


def token_of(authorization: str | None) -> str:
    """The token of an ``Authorization`` header. Raises :class:`Unauthenticated`."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated()
    return token.strip()


def _position(created: float, id: str) -> tuple[float, str]:
    return float(created), str(id)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
