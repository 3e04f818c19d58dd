"""Measures a backup, its verification and its restore: ``python -m tests.builders.backups.measured EXECUTIONS``.

Each execution has an artifact of 4 KiB; as many are queued as have ended. Prints a row of the table in
``docs/operations/backup.md``.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.store import open_store
from tests.builders.backups.installations import Backups, ended, prepare, redis_in
from tests.builders.records import submit

ARTIFACT_BYTES = 4096


def seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def main() -> None:
    count = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as name, redis_in(Path(name) / "redis") as server:
        directory = Path(name)
        backups = Backups(directory, str(directory / "backups"))
        settings = backups.settings(directory / "state", server)
        prepare(settings)
        store = open_store(settings)
        for _ in range(count):
            ended(store, os.urandom(ARTIFACT_BYTES))
        for _ in range(count):
            submit(store, tenant="default", limit=10**6, tenant_limit=10**6)
        memory = store.redis.info("memory")["used_memory"]
        first = seconds(lambda: backups.create(settings))
        again = seconds(lambda: backups.create(settings))
        verified = seconds(lambda: backups.verify(settings))
        with redis_in(directory / "fresh") as empty:
            restored = seconds(lambda: backups.restore(backups.settings(directory / "other", empty)))
        store.redis.close()
    row = (
        f"{2 * count}",
        f"{count}",
        f"{memory / 2**20:.0f} MiB",
        *(f"{s:.1f} s" for s in (first, again, verified, restored)),
    )
    print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
