"""Large contents as files shared by API and workers: uploaded blobs, large inputs, artifacts, output beyond Redis.

``<root>/blobs/<tenant>/<sha256>`` is content-addressed within a tenant, so a tenant cannot find out whether another has
the same bytes. ``<root>/artifacts/<execution>/<attempt>/<sha256>`` is deleted with its execution. Files appear by
rename, complete or not at all, except for ``stdout`` and ``stderr`` beside an attempt's artifacts, which have the
output beyond Redis's share and grow while the program runs; ``bundles`` has the same of the program's results.
``result`` has the end of an execution where it is too large for Redis.

Names of tenants and executions come from Redis, where an attacker may have written them: names with a path are refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import BlobsFull, BlobsUnavailable, NotFound

HEX = frozenset("0123456789abcdef")
OUTPUTS = ("stdout", "stderr", "bundles", "result")
ZEROS = bytes(2**16)
HOLE_BYTES = 4096  # a page, the smallest hole of a file system
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")  # of tenants and executions


class BlobWriter:
    """Writes bytes to a file named by their SHA-256. Raises :class:`BlobsUnavailable` if the disk fails or is full.

    Blocks of zeros become holes, so that a sparse file takes no disk blocks.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._digest = hashlib.sha256()
        self.size = 0
        self._ends_in_hole = False
        try:
            directory.mkdir(parents=True, exist_ok=True)
            descriptor, self._name = tempfile.mkstemp(dir=directory, prefix=".upload-")
        except OSError as error:
            raise BlobsUnavailable() from error
        self._file = os.fdopen(descriptor, "wb")

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._digest.update(chunk)
        self.size += len(chunk)
        try:
            for start in range(0, len(chunk), len(ZEROS)):
                self._append(chunk[start : start + len(ZEROS)])
        except OSError as error:
            raise BlobsUnavailable() from error

    def commit(self) -> tuple[str, int]:
        """Rename the file into place; returns ``sha256:…`` and its size in bytes."""
        try:
            if self._ends_in_hole:
                self._file.truncate(self.size)
            self._file.close()
            Path(self._name).replace(self._directory / self._digest.hexdigest())
        except OSError as error:
            raise BlobsUnavailable() from error
        return f"sha256:{self._digest.hexdigest()}", self.size

    def close(self) -> None:
        """Discard an uncommitted file. Idempotent."""
        with suppress(OSError):  # an uncommitted file has no further use
            self._file.close()
        Path(self._name).unlink(missing_ok=True)

    def _append(self, block: bytes) -> None:
        self._ends_in_hole = len(block) >= HOLE_BYTES and ZEROS.startswith(block)
        if self._ends_in_hole:
            self._file.seek(len(block), os.SEEK_CUR)
        else:
            self._file.write(block)


class Blobs:
    """The blob directory. Thread- and process-safe: files are only renamed into place and removed."""

    def __init__(self, root: Path, least_free_bytes: int = 0) -> None:
        self._root = root
        self._least_free_bytes = least_free_bytes

    def put(self, tenant: str, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Store bytes; return ``sha256:…`` and their number. Raises :class:`BlobsUnavailable`.

        Leaves the reserve for artifacts of running programs.
        """
        writer = self.writer(tenant)
        try:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()
        finally:
            writer.close()

    def writer(self, tenant: str) -> BlobWriter:
        """A writer for bytes as they arrive; otherwise like :meth:`put`."""
        directory = self._root / "blobs" / _name(tenant)
        self.check_writable()
        return BlobWriter(directory)

    def path(self, tenant: str, reference: str) -> Path | None:
        """The path of a tenant's blob, or ``None``. Using a blob renews its retention."""
        path = self._root / "blobs" / _name(tenant) / _digest(reference)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def artifact_writer(self, execution: str, attempt: int) -> BlobWriter:
        """A writer for one artifact of an attempt."""
        return BlobWriter(self._root / "artifacts" / _name(execution) / str(attempt))

    def write_output(self, execution: str, attempt: int, type: str, offset: int, data: bytes) -> None:
        """Write output of an attempt at an offset of its file. Idempotent.

        The file is closed each time, so that other hosts see the bytes on a network file system. Raises
        :class:`BlobsUnavailable`.
        """
        path = self._output_path(execution, attempt, type)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
                file.seek(offset)
                file.write(data)
        except OSError as error:
            raise BlobsUnavailable() from error

    def read_output(self, execution: str, attempt: int, type: str, offset: int, length: int) -> bytes:
        """Output of an attempt. Raises :class:`NotFound` for an incomplete file."""
        try:
            with self._output_path(execution, attempt, type).open("rb") as file:
                if offset < 0 or length < 0 or offset + length > os.fstat(file.fileno()).st_size:
                    raise FileNotFoundError
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError as error:
            raise NotFound(f"The bytes of {type} are gone.") from error

    def _output_path(self, execution: str, attempt: int, type: str) -> Path:
        if type not in OUTPUTS:
            raise ValueError("not a name of an output")
        return self._root / "artifacts" / _name(execution) / str(int(attempt)) / type

    def artifact_path(self, execution: str, attempt: int, sha256: str) -> Path:
        """The path of an artifact."""
        return self._root / "artifacts" / _name(execution) / str(attempt) / _digest(sha256)

    def delete_artifacts(self, execution: str) -> None:
        """Remove every artifact of an execution. Idempotent."""
        shutil.rmtree(self._root / "artifacts" / _name(execution), ignore_errors=False, onerror=_ignore_missing)

    def delete_tenant(self, tenant: str) -> None:
        """Remove all blobs of a tenant. Idempotent."""
        shutil.rmtree(self._root / "blobs" / _name(tenant), ignore_errors=False, onerror=_ignore_missing)

    def executions(self, older_than_seconds: float) -> list[str]:
        """Executions with artifacts here that have not changed for that long."""
        deadline = self._now() - older_than_seconds
        return [path.name for path in _paths(self._root / "artifacts") if _is_older(path, deadline)]

    def expire(self, older_than_seconds: float) -> int:
        """Remove blobs unused for ``seconds``, and remains of interrupted uploads; returns their number."""
        deadline = self._now() - older_than_seconds
        removed = 0
        for path in (blob for tenant in _paths(self._root / "blobs") for blob in _paths(tenant)):
            if _is_older(path, deadline):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _now(self) -> float:
        """The current time by the file system's clock, which may be another host's."""
        try:
            with tempfile.TemporaryFile(dir=self._root) as fresh:
                return os.fstat(fresh.fileno()).st_mtime
        except OSError:  # the directory is missing, or the disk is full: then the removal of old blobs is most urgent
            return time.time()

    def check_writable(self) -> None:
        """Raise :class:`BlobsUnavailable` unless the directory is writable and has free space."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._root):
                pass
            if shutil.disk_usage(self._root).free < self._least_free_bytes:
                raise BlobsFull()
        except OSError as error:
            raise BlobsUnavailable() from error


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("not a name of a tenant or an execution")
    return name


def _digest(reference: str) -> str:
    digest = reference.removeprefix("sha256:")
    if len(digest) != 64 or not HEX.issuperset(digest):
        raise ValueError("not a SHA-256 reference")
    return digest


def _paths(directory: Path) -> list[Path]:
    """The contents of a directory; of a removed directory, none."""
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


def _is_older(path: Path, deadline: float) -> bool:
    """Whether the file exists and was last changed before ``deadline``; another janitor may have removed it."""
    try:
        return path.stat().st_mtime < deadline
    except FileNotFoundError:
        return False


def _ignore_missing(function: object, path: str, info: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
