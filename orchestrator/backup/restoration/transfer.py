"""Copies all keys of a Redis to another, and compares the two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from redis import exceptions

from orchestrator.backup.errors import BackupError
from orchestrator.errors import StoreFull
from orchestrator.store import keys, scripts

BATCH = 500
LEASES = frozenset({keys.BACKUP.encode(), keys.JANITOR.encode(), keys.RESTORING.encode()})
NOT_ALLOWED = "Redis refused to restore: {}. The user in MAYFLY_REDIS_URL needs the command RESTORE for this once."


def copy(source: Any, to: Any) -> int:
    """Copy all keys but leases, with their times of expiry; returns their number. Replaces keys of the same name.

    Raises :class:`BackupError` and :class:`StoreUnavailable`.
    """
    copied = 0
    for names in batches(source):
        with source.pipeline(transaction=False) as read:
            for name in names:
                read.dump(name)
                read.execute_command("PEXPIRETIME", name)
            answers = read.execute()
        with to.pipeline(transaction=False) as write:
            for name, data, expires_at in zip(names, answers[::2], answers[1::2], strict=True):
                if data is not None:  # not expired meanwhile
                    write.restore(name, max(0, expires_at), data, replace=True, absttl=expires_at > 0)
                    copied += 1
            try:
                write.execute()
            except exceptions.NoPermissionError as error:
                raise BackupError(NOT_ALLOWED.format(error)) from error
            except exceptions.ResponseError as error:
                raise BackupError(f"Redis refused to restore: {error}") from error
            except StoreFull as error:
                bytes_needed = source.info("memory")["used_memory"]
                raise BackupError(f"Redis is full; its maxmemory must exceed {bytes_needed} bytes.") from error
    return copied


def batches(redis: Any) -> Iterator[list[bytes]]:
    """The names of all keys but leases, each once if Redis has no other writer."""
    cursor = 0
    while True:
        cursor, names = redis.scan(cursor, count=BATCH)
        if wanted := [name for name in dict.fromkeys(names) if name not in LEASES]:
            yield wanted
        if cursor == 0:
            return


def differences(one: Any, other: Any) -> list[bytes]:
    """The keys whose values differ. The second comparison excludes keys that expired during the first."""
    names = {name for redis in (one, other) for batch in batches(redis) for name in batch}
    differing = _differing(one, other, sorted(names))
    return _differing(one, other, differing)


def delay(redis: Any, seconds: float) -> None:
    """Add the time of an outage to the times by which executions wait and are kept."""
    redis.eval(scripts.DELAY, 0, f"{seconds:.6f}")


def _differing(one: Any, other: Any, names: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for first in range(0, len(names), BATCH):
        batch = names[first : first + BATCH]
        digests = [redis.execute_command("DEBUG", "DIGEST-VALUE", *batch) for redis in (one, other)]
        found += [name for name, *pair in zip(batch, *digests, strict=True) if pair[0] != pair[1]]
    return found
