"""The records of own users: creation, look-up, lists, changes, deletion. Names are unique in an installation."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from orchestrator.errors import IdempotencyConflict, NotFound, StoreUnavailable, TooManyRecords, UserExists
from orchestrator.identity.seals import Seals
from orchestrator.identity.users import NewUser, User, UserRecord
from orchestrator.queries import cursors
from orchestrator.store import Store, keys, scripts
from orchestrator.store.malformed import report_malformed

REQUEST_SECONDS = 24 * 3600  # for which an Idempotency-Key is remembered
MOST_TRIES = 10  # of a change while others change the same user
MOST_USERS = 10_000  # of an installation
LIST_ID = cursors.list_id("users")


class UserRequest(NamedTuple):
    """The Idempotency-Key of a request for a user, and an HMAC of its body, since the body has a password."""

    principal: str
    key: str
    body: bytes


class Users:
    """The own users of every tenant. Thread-safe."""

    def __init__(self, store: Store, secret: bytes) -> None:
        self._redis: Any = store.redis
        self._seals = Seals(secret)
        self._secret = hmac.digest(secret, b"mayfly request for a user", hashlib.sha256)
        self._create, self._change, self._delete = map(
            store.redis.script, (scripts.CREATE_USER, scripts.CHANGE_USER, scripts.DELETE_USER)
        )

    def create(
        self, wanted: NewUser, hash: str, created_by: str, request: UserRequest | None, audit: Callable[[str], str]
    ) -> User:
        """A new user; the same user for a repeated request. ``audit`` makes the entry for the user's id.

        Raises :class:`UserExists`, :class:`IdempotencyConflict` for another body, :class:`NotFound` for an unknown
        tenant or if the user was deleted since, and :class:`TooManyRecords`.
        """
        fields = wanted.model_dump(exclude={"password"})
        user = UserRecord(**fields, id=secrets.token_hex(16), created_at=datetime.now(UTC), created_by=created_by)
        names = [] if request is None else [keys.user_request(request.principal, request.key)]
        digest = "" if request is None else hmac.digest(self._secret, request.body, hashlib.sha256).hex()
        remembered = json.dumps({"id": user.id, "digest": digest})
        stored = self._stored(user), self._hash(user.id, hash)
        arguments = [user.id, user.name, *stored, remembered, REQUEST_SECONDS, user.tenant, MOST_USERS, audit(user.id)]
        match self._create(keys=names, args=arguments):
            case [b"seen", raw]:
                seen = json.loads(raw)
                if not hmac.compare_digest(seen["digest"], digest):
                    raise IdempotencyConflict()
                return self.get(seen["id"])
            case [b"tenant"]:
                raise NotFound(f"There is no tenant {user.tenant!r}.")
            case [b"full"]:
                raise TooManyRecords(bound=MOST_USERS)
            case [b"name"]:
                raise UserExists(f"There is a user {wanted.name!r} already.")
        return user.shown()

    def page(self, limit: int, cursor: str | None) -> tuple[list[User], str | None]:
        """Users, oldest first, and the cursor of the next. Raises :class:`ValidationFailed`."""
        after = (0.0, "") if cursor is None else cursors.opened(cursor, LIST_ID, _position)
        stored = self._redis.hgetall(keys.USERS).items()
        read = filter(None, (record(self._seals, id.decode(errors="replace"), raw) for id, raw in stored))
        found = sorted(((user.created_at.timestamp(), user.id, user) for user in read), key=lambda row: row[:2])
        rest = [row for row in found if row[:2] > after]
        items = [user.shown() for _, _, user in rest[:limit]]
        return items, cursors.closed(LIST_ID, *rest[limit - 1][:2]) if len(rest) > limit else None

    def get(self, id: str) -> User:
        """One user. Raises :class:`NotFound`."""
        return self._read(id)[1].shown()

    def change(
        self, id: str, changes: dict[str, Any], hash: str | None, entry: str, generation: int | None = None
    ) -> UserRecord | None:
        """The user with changed fields; a new password and disabling end all sessions of the user.

        ``None`` if the user's ``generation`` differs from the given. Raises :class:`NotFound`.
        """
        for _ in range(MOST_TRIES):
            stored, user = self._read(id)
            if generation not in (None, user.generation):
                return None
            is_end = hash is not None or changes.get("disabled", False)
            ended = {"generation": user.generation + 1} if is_end else {}
            sealed = "" if hash is None else self._hash(id, hash)
            changed = user.model_copy(update={**changes, **ended})
            if self._change(args=[id, stored, self._stored(changed), sealed, entry]):
                return changed
        raise StoreUnavailable("Concurrent requests changed this user. Try again a little later.")

    def delete(self, id: str, entry: str) -> None:
        """Delete a user, with its name and its sessions. Raises :class:`NotFound`."""
        if not self._delete(args=[id, self._read(id)[1].name, entry]):
            raise NotFound(f"There is no user {id!r}.")

    def _read(self, id: str) -> tuple[bytes, UserRecord]:
        stored = self._redis.hget(keys.USERS, id)
        if stored is None or (user := record(self._seals, id, stored)) is None:
            raise NotFound(f"There is no user {id!r}.")
        return stored, user

    def _stored(self, user: UserRecord) -> str:
        return self._seals.seal(f"user {user.id}", user.model_dump_json())

    def _hash(self, id: str, hash: str) -> str:
        return self._seals.seal(f"password {id}", hash)


def record(seals: Seals, id: str, stored: bytes) -> UserRecord | None:
    """The user with that id, as Redis has it; ``None`` for malformed data and without a seal, which is reported."""
    text = seals.opened(f"user {id}", stored)
    if text is None:
        return None
    try:
        return UserRecord.model_validate_json(text)
    except ValidationError as error:
        report_malformed("users", type(error).__name__)
        return None


def _position(created: float, id: str) -> tuple[float, str]:
    return float(created), str(id)
