"""Creates a backup: Redis first, then files, the summary last."""

from __future__ import annotations

import hashlib
import io
import secrets
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from redis.exceptions import ResponseError

from orchestrator import __version__
from orchestrator.audit.log import AuditLog
from orchestrator.backup import files, manifest
from orchestrator.backup.creation.lease import BackupLease
from orchestrator.backup.creation.retention import Kept, Removed, prune
from orchestrator.backup.creation.snapshot import Snapshot
from orchestrator.backup.encryption import Encrypted, Recipients
from orchestrator.backup.errors import BackupError, Damaged
from orchestrator.backup.manifest import Contents, Keys, Part, StoredFile, Summary, place
from orchestrator.backup.targets import Target
from orchestrator.settings import Settings
from orchestrator.store import Store, keys, open_store
from orchestrator.store.content.beneath import directory, open_file
from orchestrator.store.security import LogBounds

OWNER = "repository.json"
IN_MEMORY_BYTES = 8 * 2**20  # of an encrypted file; larger ones go to a temporary file
CHUNK_BYTES = 2**20


class Stored(NamedTuple):
    """The files of the blob directory in the target, and the number and bytes of new objects."""

    files: tuple[StoredFile, ...]
    new_objects: int
    new_bytes: int


class Made(NamedTuple):
    """A new backup, and what retention removed."""

    summary: Summary
    removed: Removed


class Creator:
    """Makes backups of one installation in one target."""

    def __init__(self, settings: Settings, target: Target) -> None:
        """Raises :class:`BackupError` without recipients, with a weak signing key, or if a directory does not have the
        contents; ``OSError`` without a key.
        """
        files.check_contents(settings)
        self._settings, self._target = settings, target
        self._recipients = Recipients(settings.backup_recipients)
        try:
            self._secret = settings.secret()
        except ValueError as error:
            raise BackupError(str(error)) from error
        self.keys = Keys.of(self._secret)

    def create(self, kept: Kept, progress: Callable[[str], None] = lambda text: None) -> Made:
        """Make a backup, complete or not at all; then remove backups that are too old.

        Raises :class:`BackupError`, ``OSError``, :class:`StoreUnavailable`.
        """
        try:
            return self._create(kept, progress)
        except ResponseError as error:
            raise BackupError(f"Redis refused a command of the backup: {error}") from error

    def _create(self, kept: Kept, progress: Callable[[str], None]) -> Made:
        claim(self._target, self.keys.public_key)
        id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        store = open_store(self._settings)
        with closing(store.redis), BackupLease(store.deletions, id) as lease:
            audit = AuditLog(store, self._secret, LogBounds(1, 1)).last_seal()
            progress("reading Redis")
            redis, moment = self._redis(store, id)
            progress("reading files")
            self._check_blobs(store)
            stored = self._files()
            contents = self._contents(id, store, stored)
            names = "".join(f"{name}\n" for name in sorted({file.object for file in stored.files})).encode()
            objects = self._put(place(id, manifest.OBJECTS), names)
            lease.check()
            summary = self.keys.sign(
                Summary(
                    id=id,
                    snapshot_at=datetime.fromtimestamp(moment, UTC),
                    finished_at=datetime.fromtimestamp(store.now(), UTC),
                    version=__version__,
                    parts={manifest.REDIS: redis.stored, manifest.CONTENTS: contents.stored, manifest.OBJECTS: objects},
                    files=len(stored.files),
                    bytes=sum(file.size for file in stored.files),
                    new_objects=stored.new_objects,
                    new_bytes=stored.new_bytes,
                    audit=audit,
                    recipients=tuple(self._settings.backup_recipients),
                )
            )
            self._target.flush()  # the summary must not be on a disk before the rest
            self._put(place(id, manifest.SUMMARY), f"{summary.model_dump_json(indent=1)}\n".encode())
            self._target.flush()
            progress("removing old backups")
            return Made(summary, prune(self._target, self.keys.public_key, kept, summary.finished_at, lease.check))

    def _redis(self, store: Store, id: str) -> tuple[Encrypted, float]:
        """Store the data of Redis; returns also the time by Redis's clock just before that moment."""
        moment = store.now()
        with closing(Snapshot(self._settings.effective_redis_url)) as snapshot:
            return self._encrypted(place(id, manifest.REDIS), snapshot), moment

    def _check_blobs(self, store: Store) -> None:
        """Raise :class:`BackupError` if there are executions but no blob directory, as on a wrong host."""
        path = self._settings.blobs_path
        if not path.is_dir() and store.redis.exists(keys.QUEUED, keys.ACTIVE, keys.EXPIRY):
            raise BackupError(f"There are executions, but no blob directory {path}; set MAYFLY_BLOB_DIR to it.")

    def _files(self) -> Stored:
        known = set(self._target.sizes("objects/"))
        found: list[StoredFile] = []
        new_objects = new_bytes = 0
        for file in files.blob_files(self._settings.blobs_path):
            with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as spool:
                try:
                    stored, size = self._read(file, known, spool)
                except FileNotFoundError:
                    continue  # deleted just before the snapshot, in which no record has the file
                found.append(stored)
                if stored.object not in known:
                    spool.seek(0)
                    self._target.put(stored.object, spool)
                    known.add(stored.object)
                    new_objects, new_bytes = new_objects + 1, new_bytes + size
        return Stored(tuple(found), new_objects, new_bytes)

    def _read(self, file: files.BlobFile, known: set[str], spool: IO[bytes]) -> tuple[StoredFile, int]:
        """Encrypt a file into ``spool``, unless the target has its content; returns also the encrypted size."""
        if file.sha256 and (name := self.keys.object_name(file.sha256)) in known:
            return StoredFile(path=file.relative, object=name, sha256=file.sha256, size=file.path.stat().st_size), 0
        parent = Path(file.relative).parent
        with (
            directory(self._settings.blobs_path, *parent.parts) as opened,
            open(opened / file.path.name, "rb", opener=open_file) as source,  # a worker may have placed a link
        ):
            clear, encrypted = self._recipients.encrypt(source, spool)
        name = self.keys.object_name(clear.sha256)
        return StoredFile(path=file.relative, object=name, sha256=clear.sha256, size=clear.size), encrypted.size

    def _contents(self, id: str, store: Store, stored: Stored) -> Encrypted:
        contents = Contents(
            id=id,
            database=store.redis.connection_pool.connection_kwargs.get("db", 0),
            own_files=tuple(files.own_files(self._settings)),
            files=stored.files,
            images=files.images(self._settings),
            settings=files.chosen_settings(self._settings),
        )
        return self._encrypted(place(id, manifest.CONTENTS), io.BytesIO(contents.model_dump_json().encode()))

    def _encrypted(self, name: str, source: Any) -> Encrypted:
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as spool:
            made = self._recipients.encrypt(source, spool)
            spool.seek(0)
            self._target.put(name, spool)
        return made

    def _put(self, name: str, data: bytes) -> Part:
        self._target.put(name, io.BytesIO(data))
        return Part(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def claim(target: Target, public_key: str) -> None:
    """Claim the target for this installation. Raises :class:`BackupError` if it belongs to another installation.

    Two installations in one target would remove each other's objects.
    """
    line = f'{{"format": {manifest.FORMAT}, "public_key": "{public_key}"}}\n'.encode()
    try:
        found = owner_line(target)
    except Damaged:
        target.put(OWNER, io.BytesIO(line))
        found = owner_line(target)
    if found != line:
        raise BackupError(
            "The target has the backups of another installation; choose a directory or prefix of its own."
        )


def owner_line(target: Target) -> bytes:
    """The stored line that names the owner. Raises :class:`Damaged` for an unused target."""
    stream: IO[bytes]
    with target.open(OWNER) as stream:
        return stream.read(CHUNK_BYTES)
