"""Single files of the blob directory: written at once or in pieces, with holes for zeros, and read by ranges."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from orchestrator.errors import BlobsUnavailable
from orchestrator.store.content.beneath import directory, open_file

ZEROS = bytes(2**16)
HOLE_BYTES = 4096  # a page, the smallest hole of a file system
CHUNK_BYTES = IN_MEMORY_BYTES = 2**18


class FileWriter:
    """Writes bytes to a file named by their SHA-256, in the directory ``names`` beneath ``root``.

    A first piece of any size and small contents stay in memory until the end, so contents that are stored already make
    no file. Raises :class:`BlobsUnavailable` if the disk fails or is full.
    """

    def __init__(self, root: Path, *names: str) -> None:
        self._digest = hashlib.sha256()
        self.size = 0
        self._in_memory: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._ends_in_hole = False
        self._cleanup = ExitStack()
        try:
            self._directory = self._cleanup.enter_context(directory(root, *names, made=True))
        except OSError as error:
            raise BlobsUnavailable() from error

    def write(self, chunk: bytes) -> None:
        """As :class:`BlobWriter` has it."""
        if not chunk:
            return
        self._digest.update(chunk)
        self.size += len(chunk)
        self._in_memory.append(chunk)
        if self._file is None and (len(self._in_memory) == 1 or self.size <= IN_MEMORY_BYTES):
            return
        try:
            self._written()
        except OSError as error:
            raise BlobsUnavailable() from error

    def commit(self) -> tuple[str, int]:
        """As :class:`BlobWriter` has it."""
        try:
            target = self._directory / self._digest.hexdigest()
            if not _renewed(target, self.size):
                file = self._written()
                if self._ends_in_hole:
                    file.truncate(self.size)
                    os.fsync(file.fileno())  # a power failure may otherwise leave zeros in a file of the full size
                file.close()
                Path(self._name).replace(target)
        except OSError as error:
            raise BlobsUnavailable() from error
        return f"sha256:{self._digest.hexdigest()}", self.size

    def close(self) -> None:
        """As :class:`BlobWriter` has it."""
        if self._file is not None:
            with suppress(OSError):  # an uncommitted file has no further use
                self._file.close()
        self._cleanup.close()

    def _written(self) -> IO[bytes]:
        """The file, with all bytes that came."""
        if self._file is None:
            descriptor, self._name = tempfile.mkstemp(dir=self._directory, prefix=".upload-")
            self._file = os.fdopen(descriptor, "wb")
            self._cleanup.callback(Path(self._name).unlink, missing_ok=True)
            os.fchmod(descriptor, mode_in(self._directory))
        for chunk in self._in_memory:
            self._ends_in_hole = _append(self._file, chunk)
        self._in_memory.clear()
        return self._file


class FileContent:
    """An open file. Raises ``FileNotFoundError``, also for a link."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", opener=open_file)  # noqa: SIM115 - see close
        self.file: IO[bytes] | None = self._file
        self.size = os.fstat(self._file.fileno()).st_size

    def chunks(self, begin: int, end: int) -> Iterator[bytes]:
        """As :class:`Content` has it."""
        self._file.seek(begin)
        while begin < end and (chunk := self._file.read(min(CHUNK_BYTES, end - begin))):
            yield chunk
            begin += len(chunk)

    def fileno(self) -> int:
        """The descriptor."""
        return self._file.fileno()

    def close(self) -> None:
        """As :class:`Content` has it."""
        self._file.close()


def write_at(root: Path, names: tuple[str, ...], name: str, offset: int, data: bytes) -> None:
    """Write bytes of a file that grows, in the directory ``names`` beneath ``root``. Idempotent. Raises
    :class:`BlobsUnavailable`.
    """
    try:
        with directory(root, *names, made=True) as parent:
            descriptor = open_file(parent / name, os.O_WRONLY | os.O_CREAT, mode_in(parent))
            with os.fdopen(descriptor, "wb") as file:
                file.seek(offset)
                if _append(file, data):
                    file.truncate(max(offset + len(data), os.fstat(file.fileno()).st_size))
    except OSError as error:
        raise BlobsUnavailable() from error


def mode_in(directory: Path) -> int:
    """The mode of a new file: a group that may write its directory, as API and workers share, may write it, too."""
    return 0o660 if directory.stat().st_mode & stat.S_IWGRP else 0o600


def _renewed(path: Path, size: int) -> bool:
    """Whether a file is there and complete; its retention begins anew.

    Replacing it by the same bytes would make ext4 write them to the disk at once.
    """
    try:
        os.utime(path, follow_symlinks=False)
        found = path.lstat()
    except OSError:  # it is missing, or another user's
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size  # less after a power failure


def _append(file: IO[bytes], data: bytes) -> bool:
    """Write at the file's position, blocks of zeros as holes, which take no disk blocks; whether the data ends in
    one.
    """
    is_hole = False
    for start in range(0, len(data), len(ZEROS)):
        block = data[start : start + len(ZEROS)]
        is_hole = len(block) >= HOLE_BYTES and ZEROS.startswith(block)
        if is_hole:
            file.seek(len(block), os.SEEK_CUR)
        else:
            file.write(block)
    return is_hole
