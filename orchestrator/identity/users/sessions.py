"""Sessions of own users: log-in, refresh, end; and the access tokens within them.

An access token names its user and its session. Every request reads both, and the state of the user's tenant, in one
round trip, so an ended session, a disabled or deleted user, changed roles, a new password and a disabled tenant take
effect with the next request.

A refresh token is the session's id, a number, and a MAC of both and of the user with a key that Redis does not have;
the session stores the next valid number. The last token that was used may come again once, for ``AGAIN_SECONDS``, as
its answer may have been lost; the answer has the same refresh token. A second use of any other token means that the
token was stolen: the session ends, with all its tokens.

A user has at most ``MOST_SESSIONS``; another log-in ends the oldest.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import jwt

from orchestrator.errors import LoginSlowed, TokenReused, Unauthenticated
from orchestrator.host.token_keys import ACCESS_SECONDS, ALGORITHM, TokenKey, TokenKeys
from orchestrator.identity import REFUSAL, Principal
from orchestrator.identity.issuers.tokens import OWN_ISSUER, Accepted, InvalidToken, Key, Unverified, verified
from orchestrator.identity.seals import Seals
from orchestrator.identity.tenants import check_state
from orchestrator.identity.users import Session, User, UserRecord
from orchestrator.identity.users.records import record
from orchestrator.models.frozen import Frozen
from orchestrator.store import Store, keys, scripts

AUDIENCE = "urn:mayfly:api"
ACCEPTED = Accepted(
    OWN_ISSUER, AUDIENCE, required=("exp", "iat", "nbf", "iss", "aud", "sub", "jti"), most_seconds=ACCESS_SECONDS
)
IDLE_SECONDS, LONGEST_SECONDS = 12 * 3600, 7 * 86400  # of a session
MOST_SESSIONS, AGAIN_SECONDS = 20, 30
REFRESH = re.compile(r"mfr_([0-9a-f]{32})_(\d{1,9})_([0-9a-f]{32})_([0-9a-f]{64})", re.ASCII)


class Attempt(NamedTuple):
    """A log-in before the check of its password. ``user`` and ``hash`` are ``None`` for an unknown name."""

    place: str
    address: str
    failed: int
    pause_seconds: float
    user: UserRecord | None
    hash: str | None


class Grant(Frozen):
    """The tokens of a session. The refresh token is for one use, whose answer has the next refresh token."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the scheme, in the words of OAuth
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    user: User


class Sessions:
    """The sessions of own users. Thread-safe."""

    def __init__(self, store: Store, token_keys: TokenKeys, secret: bytes) -> None:
        self.keys, self._redis = token_keys, store.redis
        self._secret = hmac.digest(secret, b"mayfly refresh token", hashlib.sha256)
        self._seals = Seals(secret)
        self._begin, self._open, self._find, self._list, self._refresh, self._end = map(
            store.redis.script,
            (
                scripts.BEGIN_LOGIN,
                scripts.OPEN_SESSION,
                scripts.FIND_SESSION,
                scripts.LIST_SESSIONS,
                scripts.REFRESH_SESSION,
                scripts.END_SESSION,
            ),
        )

    def begin(self, name: str, address: str) -> Attempt:
        """Count a log-in, as failed for now. Raises :class:`LoginSlowed`."""
        digest = hashlib.sha256(f"{name}\0{address}".encode(errors="surrogatepass")).hexdigest()  # may be a password
        place = keys.login_attempts(digest[:32])
        found = self._begin(keys=[place], args=[name.encode(errors="surrogatepass"), address])
        if found[0]:
            raise LoginSlowed(max(1, math.ceil(found[0] / 1000)))
        _, failed, pause, id, stored, hash = found
        owner = id.decode(errors="replace")
        user, opened = self._user(owner, stored), self._seals.opened(f"password {owner}", hash)
        return Attempt(place, address, failed, pause / 1000, user, opened.decode() if opened else None)

    def open(
        self, attempt: Attempt, user: UserRecord, key: TokenKey, audit: Callable[[str], str], ended: str
    ) -> Grant | None:
        """A session of the user; ``None`` for a user that was disabled, deleted or given a new password since.

        ``audit`` makes the entry for the session's id; ``ended``: the entry in case that older sessions end for it.
        """
        id = secrets.token_hex(16)
        bounds = IDLE_SECONDS, LONGEST_SECONDS, MOST_SESSIONS
        opened = self._open(
            keys=[attempt.place], args=[user.id, user.generation, attempt.address, id, *bounds, audit(id), ended]
        )
        return self._grant(key, user, id, 0, IDLE_SECONDS) if opened else None

    def of(self, user: str, attempt: Attempt | None = None) -> list[Session]:
        """The sessions of a user, the oldest first. ``attempt``: of its log-in, which counts no longer as failed."""
        rows = self._list(keys=[attempt.place] if attempt else [], args=[user])
        return [
            Session(
                id=row[0].decode(errors="replace"),
                created_at=_time(row[1]),
                refreshed_at=_time(row[2]),
                ends_at=_time(row[3]),
                address=row[4].decode(errors="replace"),
            )
            for row in rows
        ]

    def close(self, user: str, session: str, entry: str) -> bool:
        """End a session of the user; ``False`` if it has ended. ``entry``: of the audit log."""
        return bool(self._end(args=[user, session, entry]))

    def refresh(self, token: str, key: TokenKey, audit: Callable[[str, Principal, str], str]) -> Grant:
        """The next tokens of a session. ``audit`` makes entries of used tokens that come: ``repeat`` and ``reuse``.

        Raises :class:`Unauthenticated`, and for a reused token :class:`TokenReused`.
        """
        session, number, id = self._parsed(token)
        user = self._holder(session, id)
        if user is None:
            raise Unauthenticated(REFUSAL, wrong_key=True)
        bounds = IDLE_SECONDS, LONGEST_SECONDS, AGAIN_SECONDS
        entries = [audit(change, user.principal(), session) for change in ("repeat", "reuse")]
        seconds = self._refresh(args=[user.id, session, number, *bounds, *entries])
        if seconds is None:
            raise Unauthenticated(REFUSAL, wrong_key=True)
        if not seconds:
            raise TokenReused(REFUSAL, user=user.id)
        return self._grant(key, user, session, number + 1, int(seconds))

    def end(self, token: str, audit: Callable[[Principal, str], str]) -> None:
        """End the session of a refresh token, if it has not ended. Raises :class:`Unauthenticated`."""
        session, _, id = self._parsed(token)
        user = self._holder(session, id)
        if user is not None:
            self.close(user.id, session, audit(user.principal(), session))

    def _holder(self, session: str, user: str) -> UserRecord | None:
        """The user of a session, if that has not ended, and is this user's."""
        return self._valid(user, self._find(keys=[keys.session(session)], args=[user]))

    def _valid(self, id: str, found: list[bytes] | None) -> UserRecord | None:
        user = self._user(id, found[1]) if found else None
        return user if found and user and not user.disabled and user.generation == int(found[0]) else None

    def _user(self, id: str, stored: bytes) -> UserRecord | None:
        return record(self._seals, id, stored) if stored else None

    def principal(self, unverified: Unverified) -> Principal:
        """The user of an access token of Mayfly's. Raises :class:`InvalidToken`, and as :func:`check_state` does."""
        key = self.keys.find(unverified.kid)
        if key is None:
            raise InvalidToken("unknown_key")
        claims = verified(unverified, Key((ALGORITHM,), key.private.public_key()), ACCEPTED)
        subject, session = claims["sub"], claims.get("sid")
        if not isinstance(subject, str) or not isinstance(session, str):
            raise InvalidToken("session")
        found = self._find(keys=[keys.session(session)], args=[subject])
        user = self._valid(subject, found)
        if user is None:
            raise InvalidToken("session_ended")
        check_state(found[2])
        return user.principal()

    def _grant(self, key: TokenKey, user: UserRecord, session: str, number: int, seconds: int) -> Grant:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": OWN_ISSUER,
            "aud": AUDIENCE,
            "sub": user.id,
            "sid": session,
            "iat": now,
            "nbf": now,
            "exp": now + ACCESS_SECONDS,
            "jti": secrets.token_hex(16),
        }
        return Grant(
            access_token=jwt.encode(claims, key.private, ALGORITHM, {"typ": "at+jwt", "kid": key.kid}),
            expires_in=ACCESS_SECONDS,
            refresh_token=f"mfr_{session}_{number}_{user.id}_{self._mac(session, number, user.id)}",
            refresh_expires_in=seconds,
            user=user.shown(),
        )

    def _parsed(self, token: str) -> tuple[str, int, str]:
        """Session, number and user of a refresh token. Raises :class:`Unauthenticated`."""
        found = REFRESH.fullmatch(token)
        if found is None or not hmac.compare_digest(found[4], self._mac(found[1], int(found[2]), found[3])):
            raise Unauthenticated(REFUSAL, wrong_key=True)
        return found[1], int(found[2]), found[3]

    def _mac(self, session: str, number: int, user: str) -> str:
        return hmac.digest(self._secret, f"{session} {number} {user}".encode(), hashlib.sha256).hex()


def _time(seconds: bytes | int) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
