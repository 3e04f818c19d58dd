"""Verifies a backup: restores and compares its Redis, reads all its files, verifies its audit log."""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from orchestrator.audit.chain import Link, Seal, Signer, verify
from orchestrator.audit.log import PAGE, AuditLog
from orchestrator.backup.errors import BackupError
from orchestrator.backup.files import CONTENT_NAME
from orchestrator.backup.manifest import Contents, secret_of
from orchestrator.backup.restoration.reading import Reader
from orchestrator.backup.restoration.scratch import scratch_redis
from orchestrator.backup.restoration.transfer import batches, copy, differences
from orchestrator.models.stream import START
from orchestrator.settings import Settings
from orchestrator.states import State
from orchestrator.store import Store, keys, open_store
from orchestrator.store.connection import connect
from orchestrator.store.malformed import EXECUTION
from orchestrator.store.security import LogBounds

PATIENCE_SECONDS = 60.0
LARGE_RESULT = "/result"  # of executions whose result is too large for Redis
RECORD = re.compile(re.escape(keys.execution("").encode()) + b"(" + EXECUTION.pattern + b")")


class Verified(NamedTuple):
    """The result: counts of keys and files, of executions by state and of audit entries; and the faults."""

    id: str
    keys: int
    files: int
    executions: dict[str, int]
    audit_entries: int
    seconds: float
    faults: tuple[str, ...]


def verify_backup(reader: Reader, settings: Settings, progress: Callable[[str], None] = lambda text: None) -> Verified:
    """Verify all of a backup; the installation of the settings is not changed, and need not be the backup's."""
    began = time.monotonic()
    contents = reader.contents()
    secret = secret_of(contents)
    faults: list[str] = []
    damaged: set[str] = set()
    progress(f"reading {len(contents.files)} files")
    for file in contents.files:
        try:
            reader.check_file(file)
        except BackupError as error:
            damaged.add(file.path)
            faults.append(f"{file.path}: {error}")
        if CONTENT_NAME.fullmatch(name := PurePath(file.path).name) and name != file.sha256:
            faults.append(f"The content of {file.path} differs from the digest in its name.")
    progress("restoring Redis into a temporary Redis")
    with tempfile.TemporaryFile() as snapshot, tempfile.TemporaryDirectory(prefix="mayfly-backup-") as name:
        reader.write_redis(snapshot)
        blobs = Path(name)
        for file in contents.files:
            if file.path.endswith(LARGE_RESULT) and file.path not in damaged:
                reader.restore_file(file, blobs)
        with scratch_redis(snapshot, contents.database) as url, scratch_redis() as fresh:
            changes: dict[str, Any] = {"redis_url": fresh, "redis_password_file": None, "blobs_url": ""}
            changes["blob_dir"] = blobs
            changes["redis_timeout_seconds"] = PATIENCE_SECONDS
            store = open_store(settings.model_copy(update=changes))
            with closing(store.redis), closing(connect(url, PATIENCE_SECONDS)) as source:
                copy(source, store.redis)
                if differing := differences(source, store.redis):
                    faults.append(f"{len(differing)} keys are different after the restore, such as {differing[0]!r}.")
                count = sum(len(batch) for batch in batches(store.redis))
                executions, missing = _executions(store, contents)
                faults += [f"The file {path} of an execution is missing." for path in missing]
                entries, found = _audit(store, secret, reader.summary.audit)
                faults += found
    seconds = time.monotonic() - began
    return Verified(reader.summary.id, count, len(contents.files), executions, entries, seconds, tuple(faults))


def _executions(store: Store, contents: Contents) -> tuple[dict[str, int], list[str]]:
    """The number of executions by state, and files that their records name and the backup lacks."""
    there = {file.path for file in contents.files}
    states: Counter[str] = Counter()
    missing: list[str] = []
    for batch in batches(store.redis):
        ids = [match[1].decode() for name in batch if (match := RECORD.fullmatch(name))]
        for execution in store.records.get_many(ids):
            states[execution.state] += 1
            for artifact in execution.artifacts:
                path = f"artifacts/{execution.id}/{execution.attempt}/{artifact.sha256}"
                if path not in there:
                    missing.append(path)
    return {state: states[state] for state in State if states[state]}, missing


def _audit(store: Store, secret: bytes, known: Seal) -> tuple[int, list[str]]:
    """The number of audit entries, and the faults of their chain, which must have the head that the summary has."""
    log = AuditLog(store, secret, LogBounds(1, 1))
    verdict = verify(log.base(), list(_seals(log)), _links(log), Signer(secret).public_key, known)
    return verdict.entries, [f"Audit log: {fault}" for fault in verdict.faults]


def _seals(log: AuditLog) -> Iterator[Seal]:
    position = START
    while page := log.seals(position):
        yield from page
        position = page[-1].position
        if len(page) < PAGE:
            return


def _links(log: AuditLog) -> Iterator[Link]:
    position = START
    while page := log.links(position):
        yield from page
        position = page[-1].position
