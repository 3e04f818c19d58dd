"""Schema 2: API keys, users and passwords' hashes are sealed (``orchestrator/identity/seals.py``).

Version 0.1.0 stored them without seals. The way back removes every record without a valid seal first, since version
0.1.0 would accept it, and the mark that a user must change its password, which version 0.1.0 does not know.

A file of the state directory records that no record without a seal is left: later ones were forged, and no migration
seals them.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import structlog

from orchestrator.identity.seals import Seals
from orchestrator.migrations.context import Context
from orchestrator.store import keys

SEAL_BYTES = 200  # of one record, at most: two digests, and what Redis adds
log = structlog.get_logger()


class Kind(NamedTuple):
    """Records of one kind: their hash, the name of the kind in seals, and how a record without a seal begins."""

    key: str
    name: str
    start: bytes


API_KEYS, USERS, PASSWORDS = KINDS = (
    Kind(keys.API_KEYS, "key", b"{"),
    Kind(keys.USERS, "user", b"{"),
    Kind(keys.USER_PASSWORDS, "password", b"$"),
)


def growth_bytes(context: Context) -> int:
    """The bytes that Redis needs for seals."""
    return sum(SEAL_BYTES * context.store.redis.hlen(kind.key) for kind in KINDS)


def seal(context: Context, kind: Kind) -> None:
    """Seal the records of a kind that have no seal, unless none of them can be of version 0.1.0."""
    seals, redis = Seals(context.settings.secret()), context.store.redis
    for id, record in redis.hscan_iter(kind.key):
        if not record.startswith(kind.start):
            continue
        if context.settings.sealed_path.exists():
            log.warning("records.unsealed", kind=kind.name, id=_text(id))
            continue
        if kind is not API_KEYS:
            redis.hset(kind.key, id, seals.seal(f"{kind.name} {_text(id)}", _text(record)))
        elif digest := redis.hget(keys.API_KEY_DIGESTS, id):
            redis.hset(kind.key, id, seals.seal("key", f"{_text(digest)} {_text(record)}"))


def mark(context: Context) -> None:
    """Record that no record without a seal is left."""
    context.settings.sealed_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    context.settings.sealed_path.touch()


def remove_forged(context: Context) -> None:
    """Remove records without a valid seal: without seals they would count."""
    for kind in KINDS:
        for id, record in context.store.redis.hscan_iter(kind.key):
            if _opened(context, kind, id, record) is None:
                log.warning("records.forged", kind=kind.name, id=_text(id))
                context.store.redis.hdel(kind.key, id)


def unmark(context: Context) -> None:
    """Remove the record of :func:`mark`."""
    context.settings.sealed_path.unlink(missing_ok=True)


def unseal(context: Context, kind: Kind) -> None:
    """Replace sealed records of a kind by records that version 0.1.0 reads."""
    for id, record in context.store.redis.hscan_iter(kind.key):
        if (text := _opened(context, kind, id, record)) is None:
            continue
        if kind is API_KEYS:
            text = text.partition(b" ")[2]
        elif kind is USERS:
            user = json.loads(text)
            user.pop("must_change_password", None)
            text = json.dumps(user, separators=(",", ":")).encode()
        context.store.redis.hset(kind.key, id, text)


def _opened(context: Context, kind: Kind, id: bytes, record: bytes) -> bytes | None:
    """The text of a record that Mayfly sealed for this place; ``None`` for another."""
    if record.startswith(kind.start):
        return None
    place = "key" if kind is API_KEYS else f"{kind.name} {_text(id)}"
    text = Seals(context.settings.secret()).opened(place, record)
    if text is None or kind is not API_KEYS:
        return text
    digest, _, key = text.partition(b" ")
    is_own = digest == context.store.redis.hget(keys.API_KEY_DIGESTS, id) and json.loads(key).get("id") == _text(id)
    return text if is_own else None


def _text(stored: bytes) -> str:
    return stored.decode(errors="replace")


FORWARD = (
    ("seal API keys", lambda context: seal(context, API_KEYS)),
    ("seal users", lambda context: seal(context, USERS)),
    ("seal passwords", lambda context: seal(context, PASSWORDS)),
    ("mark", mark),
)
BACK = (
    ("remove forged records", remove_forged),
    ("unmark", unmark),
    ("unseal API keys", lambda context: unseal(context, API_KEYS)),
    ("unseal users", lambda context: unseal(context, USERS)),
    ("unseal passwords", lambda context: unseal(context, PASSWORDS)),
)
