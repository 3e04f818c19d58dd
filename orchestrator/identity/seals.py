"""Seals of API keys, users and passwords' hashes in Redis, so that write access to Redis makes no administrator.

A record stands behind an HMAC-SHA256 over its place and itself, with a key that Redis does not have. A record that
another client of Redis wrote, changed, or copied to another place counts as no record.
"""

from __future__ import annotations

import hashlib
import hmac

import structlog

from orchestrator.store import Store, keys
from orchestrator.store.malformed import report_malformed

log = structlog.get_logger()


class Seals:
    """Seals records, and opens them. Thread-safe."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"mayfly record of a principal", hashlib.sha256)

    def seal(self, place: str, text: str) -> str:
        """The stored form of a text. ``place``: its kind, and an id where the text does not have it."""
        return f"{self._mac(place, text.encode())} {text}"

    def opened(self, place: str, stored: bytes | None) -> bytes | None:
        """The text; ``None`` for no record, and for one that is not sealed for this place, which is reported."""
        if not stored:
            return None
        mac, _, text = stored.partition(b" ")
        if hmac.compare_digest(mac, self._mac(place, text).encode()):
            return text
        report_malformed("seals", place)
        return None

    def _mac(self, place: str, text: bytes) -> str:
        return hmac.digest(self._key, f"{place}\0".encode(errors="replace") + text, hashlib.sha256).hex()


def seal_old_records(store: Store, secret: bytes) -> int:
    """Seal the records that a version without seals left, forged ones as well; their number.

    Only an operator asks for it, once, by the setting ``seal_records``.
    """
    seals, redis, found = Seals(secret), store.redis, 0
    for id, record in redis.hgetall(keys.API_KEYS).items():
        digest = redis.hget(keys.API_KEY_DIGESTS, id)
        if record.startswith(b"{") and digest:
            redis.hset(keys.API_KEYS, id, seals.seal("key", f"{_text(digest)} {_text(record)}"))
            found += 1
    for name, kind, start in ((keys.USERS, "user", b"{"), (keys.USER_PASSWORDS, "password", b"$")):
        for id, record in redis.hgetall(name).items():
            if record.startswith(start):
                redis.hset(name, id, seals.seal(f"{kind} {_text(id)}", _text(record)))
                found += 1
    log.warning("records.sealed", count=found)
    return found


def _text(stored: bytes) -> str:
    return stored.decode(errors="replace")
