"""Reads one backup with an identity; every byte is compared with the digests of its summary and contents."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from orchestrator.backup.encryption import Digested, Encrypted, Identities
from orchestrator.backup.errors import BackupError, Damaged
from orchestrator.backup.manifest import (
    CONTENTS,
    REDIS,
    Contents,
    Keys,
    StoredFile,
    Summary,
    is_signed,
    place,
    secret_of,
)
from orchestrator.backup.targets import Target
from orchestrator.store.content.files import mode_in


class Reader:
    """A backup in a target. All methods raise :class:`Damaged` for a missing or damaged part."""

    def __init__(self, target: Target, summary: Summary, identities: Identities) -> None:
        self._target, self.summary, self._identities = target, summary, identities

    def contents(self) -> Contents:
        """The contents, which have the secret that the summary is signed with."""
        clear = io.BytesIO()
        self._part(CONTENTS, clear)
        try:
            contents = Contents.model_validate_json(clear.getvalue())
        except ValidationError as error:
            raise Damaged("Its contents are not readable by this version.") from error
        if contents.id != self.summary.id:
            raise Damaged(f"Its contents are those of backup {contents.id}.")
        if not is_signed(self.summary, Keys.of(secret_of(contents)).public_key):
            raise Damaged("Its summary was not signed by the installation whose secret it has.")
        return contents

    def write_redis(self, to: IO[bytes]) -> None:
        """Write the clear snapshot of Redis."""
        self._part(REDIS, to)

    def write_file(self, file: StoredFile, to: Any) -> None:
        """Write the clear content of a file of the blob directory."""
        if self._decrypt(file.object, to).clear.sha256 != file.sha256:
            raise Damaged(f"{file.object} does not have the content of {file.path}.")

    def check_file(self, file: StoredFile) -> None:
        """Read the content of a file of the blob directory, and discard it."""
        self.write_file(file, Discarded())

    def restore_file(self, file: StoredFile, root: Path) -> None:
        """Write a file of the blob directory below ``root``, whole or not at all; not synced to the disk.

        A file that exists with that content is kept.
        """
        path = root / file.path
        if not path.resolve().is_relative_to(root.resolve()):
            raise BackupError(f"The backup has the path {file.path}, which leads out of the blob directory.")
        if _has(path, file):
            return
        partial = path.with_name(f".restore-{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode_in(path.parent)), "wb") as to:
            self.write_file(file, to)
        partial.replace(path)

    def _part(self, name: str, to: Any) -> None:
        part = self.summary.parts.get(name)
        stored = self._decrypt(place(self.summary.id, name), to).stored
        if stored != part:
            raise Damaged(f"{name} of backup {self.summary.id} was changed after the backup.")

    def _decrypt(self, name: str, to: Any) -> Encrypted:
        source: IO[bytes]
        with self._target.open(name) as source:
            try:
                return self._identities.decrypt(source, to)
            except Damaged as error:
                raise Damaged(f"{name}: {error}") from error


class Discarded:
    """A stream that discards its bytes."""

    def write(self, data: bytes) -> int:
        """Drop the bytes."""
        return len(data)


def _has(path: Path, file: StoredFile) -> bool:
    """Whether a file exists with that content, as an interrupted restore leaves it."""
    try:
        with path.open("rb") as source:
            found = Digested(source)
            while found.read(2**20):
                pass
    except FileNotFoundError:
        return False
    return found.part.sha256 == file.sha256
