"""Contents in a directory: ``<root>/blobs/<tenant>/<sha256>``, ``<root>/artifacts/<execution>/<attempt>/<name>``.

Files appear by rename, complete or not at all, except for outputs, which grow while the program runs. Links beneath the
root, which a worker that was taken over may have placed, are never followed (``beneath.py``).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from orchestrator.errors import BlobsFull, BlobsUnavailable, DigestMismatch, NotFound
from orchestrator.store.content.beneath import directory, open_file
from orchestrator.store.content.blobs import OUTPUTS, checked_digest, checked_name, checked_output, checked_upload
from orchestrator.store.content.files import FileContent, FileWriter, write_at


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
        checked_name(tenant)
        self.check_writable()
        return FileWriter(self._root, "blobs", tenant)

    def fetch(self, tenant: str, reference: str, target: Path) -> bool:
        """As :class:`Blobs` has it."""
        if (content := self.open(tenant, reference)) is None:
            return False
        with closing(content):
            shutil.copyfile(f"/proc/self/fd/{content.fileno()}", target)
        return True

    def open(self, tenant: str, reference: str) -> FileContent | None:
        """As :class:`OwnBlobs` has it."""
        names, name = ("blobs", checked_name(tenant)), checked_digest(reference)
        with suppress(FileNotFoundError), directory(self._root, *names) as parent:
            os.utime(parent / name, follow_symlinks=False)  # its retention begins anew
            return FileContent(parent / name)
        return None

    def open_artifact(self, execution: str, attempt: int, sha256: str) -> FileContent | None:
        """As :class:`OwnBlobs` has it."""
        names, name = _of(execution, attempt), checked_digest(sha256)
        with suppress(FileNotFoundError), directory(self._root, *names) as parent:
            return FileContent(parent / name)
        return None

    def artifact_writer(self, execution: str, attempt: int) -> FileWriter:
        """As :class:`Blobs` has it."""
        return FileWriter(self._root, *_of(execution, attempt))

    def write_output(self, execution: str, attempt: int, type: str, offset: int, data: bytes) -> None:
        """As :class:`Blobs` has it. The file is closed each time, so that other hosts see the bytes on a network file
        system.
        """
        write_at(self._root, _of(execution, attempt), checked_output(type), offset, data)

    def read_output(self, execution: str, attempt: int, type: str, offset: int, length: int) -> bytes:
        """As :class:`Blobs` has it."""
        names, name = _of(execution, attempt), checked_output(type)
        try:
            with directory(self._root, *names) as parent, open(parent / name, "rb", opener=open_file) as file:
                if offset < 0 or length < 0 or offset + length > os.fstat(file.fileno()).st_size:
                    raise FileNotFoundError
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError as error:
            raise NotFound(f"The bytes of {type} are gone.") from error

    def write_upload(self, execution: str, attempt: int, upload: str, offset: int, data: bytes) -> None:
        """As :class:`OwnBlobs` has it."""
        names, name = _of(execution, attempt), f".{checked_upload(upload)}"
        self._check_free(self._least_free_bytes // 2)
        write_at(self._root, names, name, offset, data)

    def stored(self, execution: str, attempt: int) -> tuple[int, int]:
        """As :class:`OwnBlobs` has it."""
        sizes = [_size(path) for path in self._entries(*_of(execution, attempt)) if path.name not in OUTPUTS]
        return len(sizes), sum(sizes)

    def finish_upload(self, execution: str, attempt: int, upload: str, sha256: str) -> None:
        """As :class:`OwnBlobs` has it."""
        names, upload, name = _of(execution, attempt), f".{checked_upload(upload)}", checked_digest(sha256)
        try:
            with directory(self._root, *names) as parent:
                source, target = parent / upload, parent / name
                with open(source, "rb", opener=open_file) as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                if found == name:
                    source.replace(target)
                    return
                source.unlink()
                is_repeated = os.path.lexists(target)  # the request, since its answer was lost
        except OSError as error:
            raise BlobsUnavailable() from error
        if not is_repeated:
            raise DigestMismatch()

    def delete_artifacts(self, execution: str) -> None:
        """As :class:`OwnBlobs` has it."""
        self._remove("artifacts", checked_name(execution))

    def delete_tenant(self, tenant: str) -> None:
        """As :class:`OwnBlobs` has it."""
        self._remove("blobs", checked_name(tenant))

    def executions(self, older_than_seconds: float) -> list[str]:
        """As :class:`OwnBlobs` has it."""
        deadline = self._now() - older_than_seconds
        return [path.name for path in self._entries("artifacts") if _is_older(path, deadline)]

    def expire(self, older_than_seconds: float) -> int:
        """As :class:`OwnBlobs` has it. Raises ``OSError`` for one that cannot be removed, after all others."""
        deadline = self._now() - older_than_seconds
        removed, left = 0, None
        for path in (blob for tenant in self._entries("blobs") for blob in self._entries("blobs", tenant.name)):
            try:
                if _is_older(path, deadline):
                    path.unlink(missing_ok=True)
                    removed += 1
            except OSError as error:
                left = error
        if left is not None:
            raise left
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

    def _entries(self, *names: str) -> Iterator[Path]:
        """The contents of a directory, which can be reached while they are iterated; of a removed directory, none."""
        with suppress(FileNotFoundError), directory(self._root, *names) as found:
            yield from found.iterdir()

    def _remove(self, kind: str, name: str) -> None:
        with suppress(FileNotFoundError), directory(self._root, kind) as parent:
            try:
                (parent / name).unlink()  # a link or a file, which no API or worker makes
            except IsADirectoryError:
                shutil.rmtree(parent / name, ignore_errors=False, onerror=_ignore_missing)

    def _now(self) -> float:
        """The current time by the file system's clock, which may be another host's."""
        try:
            with tempfile.TemporaryFile(dir=self._root) as fresh:
                return os.fstat(fresh.fileno()).st_mtime
        except OSError:  # the directory is missing, or the disk is full: then the removal of old blobs is most urgent
            return time.time()


def _of(execution: str, attempt: int) -> tuple[str, str, str]:
    return "artifacts", checked_name(execution), str(int(attempt))


def _size(path: Path) -> int:
    """The size of a file; of a removed file, 0."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _is_older(path: Path, deadline: float) -> bool:
    """Whether the file exists and was last changed before ``deadline``; another janitor may have removed it."""
    try:
        return path.lstat().st_mtime < deadline
    except FileNotFoundError:
        return False


def _ignore_missing(function: object, path: str, info: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
