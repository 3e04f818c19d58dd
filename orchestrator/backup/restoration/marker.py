"""The marks of an incomplete restore: a file of the state directory, and a key of Redis.

While either exists, `mayfly up` refuses to start, the API is not ready, and the janitor is idle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.store import keys

FILE = "restore-incomplete"


class Marker:
    """The marks of one installation."""

    def __init__(self, state_dir: Path, redis: Any) -> None:
        self._path, self._redis = state_dir / FILE, redis

    def found(self) -> set[str]:
        """The ids of backups whose restore was interrupted."""
        key = self._redis.get(keys.RESTORING)
        return {id for id in (unfinished(self._path.parent), key and key.decode(errors="replace")) if id}

    def set(self, id: str) -> None:
        """Mark a restore as begun."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.write_text(f"{id}\n", encoding="ascii")
        self._redis.set(keys.RESTORING, id)

    def remove(self) -> None:
        """Mark the restore as ended."""
        self._redis.delete(keys.RESTORING)
        self._path.unlink(missing_ok=True)


def unfinished(state_dir: Path) -> str | None:
    """The backup whose restore into this state directory was interrupted."""
    try:
        return (state_dir / FILE).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
