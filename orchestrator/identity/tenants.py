"""Records of tenants and service accounts in Redis, changed by compare-and-set.

The first byte of a stored record is the letter of its state, which scripts read without parsing.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from pydantic import ValidationError

from orchestrator.errors import NotFound, StoreUnavailable, TenantDisabled, TooManyRecords, Unauthenticated
from orchestrator.identity import REFUSAL
from orchestrator.models.tenants.records import DEFAULT_TENANT, MOST_ACCOUNTS, MOST_TENANTS, ServiceAccount, Tenant
from orchestrator.queries import cursors
from orchestrator.store import Store, keys, scripts
from orchestrator.store.malformed import report_malformed

LETTERS = {"active": b"a", "disabled": b"d", "deleting": b"x"}
R = TypeVar("R", Tenant, ServiceAccount)


class Stored(NamedTuple, Generic[R]):
    """A record, and its bytes in Redis: ``b""`` for a record that is not stored."""

    raw: bytes
    record: R | None


class Records:
    """The tenants and their service accounts. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._redis = store.redis
        self._put = store.redis.script(scripts.PUT_RECORD)
        self._remove_account = store.redis.script(scripts.REMOVE_ACCOUNT)

    def tenant(self, id: str) -> Stored[Tenant]:
        """A tenant. The default tenant always exists."""
        found = _read(self._redis.hget(keys.TENANTS, id), Tenant)
        return Stored(b"", Tenant(id=id)) if id == DEFAULT_TENANT and found.record is None else found

    def was_deleted(self, id: str) -> bool:
        """Whether usage and entries of a deleted tenant of that name may still be kept."""
        return self._redis.zscore(keys.TENANTS_DELETED, id) is not None

    def tenants(self, limit: int, cursor: str | None) -> tuple[list[Tenant], str | None]:
        """Tenants by name, and the cursor of the next. Raises :class:`ValidationFailed`."""
        raw: dict[bytes, bytes] = {DEFAULT_TENANT.encode(): b""} | self._redis.hgetall(keys.TENANTS)
        names, next_cursor = _page(raw, "tenants", limit, cursor)
        found = (_read(raw[name], Tenant).record or _default(name) for name in names)
        return [tenant for tenant in found if tenant], next_cursor

    def account(self, tenant: str, name: str) -> Stored[ServiceAccount]:
        """A service account of a tenant."""
        return _read(self._redis.hget(keys.service_accounts(tenant), name), ServiceAccount)

    def accounts(self, tenant: str, limit: int, cursor: str | None) -> tuple[list[ServiceAccount], str | None]:
        """A tenant's service accounts by name, and the cursor of the next. Raises :class:`ValidationFailed`."""
        raw = self._redis.hgetall(keys.service_accounts(tenant))
        names, next_cursor = _page(raw, f"accounts {tenant}", limit, cursor)
        found = (_read(raw[name], ServiceAccount).record for name in names)
        return [account for account in found if account], next_cursor

    def put(self, before: bytes, after: Tenant | ServiceAccount, entry: str) -> bool:
        """Create or replace a record; ``False`` if the stored record differs from the caller's.

        Raises :class:`TooManyRecords`, and :class:`NotFound` for an account of an unknown tenant.
        """
        if isinstance(after, Tenant):
            name, key, tenant, most = after.id, keys.TENANTS, "", MOST_TENANTS
        else:
            name, key, tenant, most = after.name, keys.service_accounts(after.tenant), after.tenant, MOST_ACCOUNTS
        stored = LETTERS[after.state] + after.model_dump_json().encode()
        answer = self._put(keys=[key], args=[name, before, stored, most, tenant, entry])
        if answer == b"full":
            raise TooManyRecords(bound=most)
        if answer == b"tenant":
            raise NotFound(f"There is no tenant {tenant!r}.")
        return bool(answer == b"ok")

    def remove_account(self, tenant: str, name: str, entry: str) -> bool:
        """Remove a service account and its keys; ``False`` for an unknown account."""
        return bool(self._remove_account(args=[tenant, name, entry]))


def check_state(letter: bytes) -> None:
    """Let in a principal by the letter of its tenant's state.

    Raises :class:`TenantDisabled`, and :class:`Unauthenticated` for a tenant that is unknown or being deleted.
    """
    if letter == LETTERS["disabled"]:
        raise TenantDisabled
    if letter != LETTERS["active"]:
        raise Unauthenticated(REFUSAL, wrong_key=True)


def changed_meanwhile() -> StoreUnavailable:
    """The error of a change that concurrent changes of the same record prevent repeatedly."""
    return StoreUnavailable("Concurrent requests changed this record. Try again a little later.")


def account_of(raw: bytes) -> ServiceAccount | None:
    """A service account from Redis; ``None`` for an unknown or malformed account."""
    return _read(raw, ServiceAccount).record


def _read(raw: bytes | None, model: type[R]) -> Stored[R]:
    if not raw:
        return Stored(b"", None)
    try:
        return Stored(raw, model.model_validate_json(raw[1:]))
    except ValidationError as error:
        report_malformed(model.__name__, str(error))
        return Stored(raw, None)


def _default(name: bytes) -> Tenant | None:
    return Tenant(id=DEFAULT_TENANT) if name == DEFAULT_TENANT.encode() else None


def _encoded(name: str) -> bytes:
    return str(name).encode()


def _page(raw: dict[bytes, bytes], what: str, limit: int, cursor: str | None) -> tuple[list[bytes], str | None]:
    list_id = cursors.list_id(what)
    after = b"" if cursor is None else cursors.opened(cursor, list_id, _encoded)
    rest = [name for name in sorted(raw) if name > after]
    names = rest[:limit]
    return names, cursors.closed(list_id, names[-1].decode(errors="replace")) if len(rest) > limit else None
