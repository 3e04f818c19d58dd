"""Contents in a directory: ``<root>/blobs/<tenant>/<sha256>``, ``<root>/artifacts/<execution>/<attempt>/<name>``.

Files appear by rename, complete or not at all, except for outputs, which grow while the program runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from orchestrator.errors import BlobsFull, BlobsUnavailable, DigestMismatch, NotFound
from orchestrator.store.content.blobs import OUTPUTS, checked_digest, checked_name, checked_output, checked_upload
from orchestrator.store.content.files import FileContent, FileWriter, opened, write_at


class DirectoryBlobs:
    """The blob directory. Thread- and process-safe: files are only renamed into place and removed."""

    def __init__(self, root: Path, least_free_bytes: int = 0) -> None:
        self._root = root
        self._least_free_bytes = least_free_bytes

    def put(self, tenant: str, chunks: Iterable[bytes]) -> tuple[str, int]:
        """As :class:`OwnBlobs` has it."""
        writer = self.writer(tenant)
        try:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()
        finally:
            writer.close()

    def writer(self, tenant: str) -> FileWriter:
        """As :class:`OwnBlobs` has it."""
        directory = self._root / "blobs" / checked_name(tenant)
        self.check_writable()
        return FileWriter(directory)

    def fetch(self, tenant: str, reference: str, target: Path) -> bool:
        """As :class:`Blobs` has it."""
        if (path := self._used(tenant, reference)) is None:
            return False
        shutil.copyfile(path, target)
        return True

    def open(self, tenant: str, reference: str) -> FileContent | None:
        """As :class:`OwnBlobs` has it."""
        path = self._used(tenant, reference)
        return None if path is None else opened(path)

    def open_artifact(self, execution: str, attempt: int, sha256: str) -> FileContent | None:
        """As :class:`OwnBlobs` has it."""
        return opened(self.artifact_path(execution, attempt, sha256))

    def artifact_writer(self, execution: str, attempt: int) -> FileWriter:
        """As :class:`Blobs` has it."""
        return FileWriter(self._of(execution, attempt))

    def write_output(self, execution: str, attempt: int, type: str, offset: int, data: bytes) -> None:
        """As :class:`Blobs` has it. The file is closed each time, so that other hosts see the bytes on a network file
        system.
        """
        write_at(self._of(execution, attempt) / checked_output(type), offset, data)

    def read_output(self, execution: str, attempt: int, type: str, offset: int, length: int) -> bytes:
        """As :class:`Blobs` has it."""
        try:
            with (self._of(execution, attempt) / checked_output(type)).open("rb") as file:
                if offset < 0 or length < 0 or offset + length > os.fstat(file.fileno()).st_size:
                    raise FileNotFoundError
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError as error:
            raise NotFound(f"The bytes of {type} are gone.") from error

    def write_upload(self, execution: str, attempt: int, upload: str, offset: int, data: bytes) -> None:
        """As :class:`OwnBlobs` has it."""
        path = self._of(execution, attempt) / f".{checked_upload(upload)}"
        self._check_free(self._least_free_bytes // 2)
        write_at(path, offset, data)

    def stored(self, execution: str, attempt: int) -> tuple[int, int]:
        """As :class:`OwnBlobs` has it."""
        sizes = [_size(path) for path in _paths(self._of(execution, attempt)) if path.name not in OUTPUTS]
        return len(sizes), sum(sizes)

    def finish_upload(self, execution: str, attempt: int, upload: str, sha256: str) -> None:
        """As :class:`OwnBlobs` has it."""
        source = self._of(execution, attempt) / f".{checked_upload(upload)}"
        target = self.artifact_path(execution, attempt, sha256)
        try:
            with source.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found == target.name:
                source.replace(target)
                return
            source.unlink()
        except OSError as error:
            raise BlobsUnavailable() from error
        if not target.exists():  # else the request is repeated, since its answer was lost
            raise DigestMismatch()

    def artifact_path(self, execution: str, attempt: int, sha256: str) -> Path:
        """The path of an artifact."""
        return self._of(execution, attempt) / checked_digest(sha256)

    def delete_artifacts(self, execution: str) -> None:
        """As :class:`OwnBlobs` has it."""
        shutil.rmtree(self._root / "artifacts" / checked_name(execution), ignore_errors=False, onerror=_ignore_missing)

    def delete_tenant(self, tenant: str) -> None:
        """As :class:`OwnBlobs` has it."""
        shutil.rmtree(self._root / "blobs" / checked_name(tenant), ignore_errors=False, onerror=_ignore_missing)

    def executions(self, older_than_seconds: float) -> list[str]:
        """As :class:`OwnBlobs` has it."""
        deadline = self._now() - older_than_seconds
        return [path.name for path in _paths(self._root / "artifacts") if _is_older(path, deadline)]

    def expire(self, older_than_seconds: float) -> int:
        """As :class:`OwnBlobs` has it."""
        deadline = self._now() - older_than_seconds
        removed = 0
        for path in (blob for tenant in _paths(self._root / "blobs") for blob in _paths(tenant)):
            if _is_older(path, deadline):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def check_writable(self) -> None:
        """As :class:`Blobs` has it."""
        self._check_free(self._least_free_bytes)
        try:
            with tempfile.TemporaryFile(dir=self._root):
                pass
        except OSError as error:
            raise BlobsUnavailable() from error

    def _check_free(self, least_bytes: int) -> None:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._root).free < least_bytes:
                raise BlobsFull()
        except OSError as error:
            raise BlobsUnavailable() from error

    def _of(self, execution: str, attempt: int) -> Path:
        return self._root / "artifacts" / checked_name(execution) / str(int(attempt))

    def _used(self, tenant: str, reference: str) -> Path | None:
        """The path of a tenant's blob, whose retention begins anew, or ``None``."""
        path = self._root / "blobs" / checked_name(tenant) / checked_digest(reference)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def _now(self) -> float:
        """The current time by the file system's clock, which may be another host's."""
        try:
            with tempfile.TemporaryFile(dir=self._root) as fresh:
                return os.fstat(fresh.fileno()).st_mtime
        except OSError:  # the directory is missing, or the disk is full: then the removal of old blobs is most urgent
            return time.time()


def _paths(directory: Path) -> list[Path]:
    """The contents of a directory; of a removed directory, none."""
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


def _size(path: Path) -> int:
    """The size of a file; of a removed file, 0."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_older(path: Path, deadline: float) -> bool:
    """Whether the file exists and was last changed before ``deadline``; another janitor may have removed it."""
    try:
        return path.stat().st_mtime < deadline
    except FileNotFoundError:
        return False


def _ignore_missing(function: object, path: str, info: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
