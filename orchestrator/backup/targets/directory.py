"""Backups in a directory, which may be a mounted file system of another host."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from orchestrator.backup.errors import BackupError, Damaged

CHUNK_BYTES = 2**20


class Directory:
    """A directory, readable to its owner alone. Files appear by rename, so no name ever has a partial file."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._changed: set[Path] = set()  # directories whose entries are not on the disk yet

    def put(self, name: str, source: IO[bytes]) -> None:
        """As :class:`Target` has it; the content is on the disk when this returns."""
        path = self._root / name
        with _failures(self._root):
            self._make(path.parent)
            descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    shutil.copyfileobj(source, file, CHUNK_BYTES)
                    file.flush()
                    os.fsync(file.fileno())
                Path(partial).replace(path)
            finally:
                Path(partial).unlink(missing_ok=True)
            self._changed.add(path.parent)

    def flush(self) -> None:
        """As :class:`Target` has it."""
        with _failures(self._root):
            for directory in self._changed:
                descriptor = os.open(directory, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            self._changed.clear()

    def open(self, name: str) -> Any:
        """As :class:`Target` has it."""
        try:
            with _failures(self._root):
                return (self._root / name).open("rb")
        except FileNotFoundError as error:
            raise Damaged(f"{name} is missing.") from error

    def sizes(self, prefix: str) -> dict[str, int]:
        """As :class:`Target` has it; leftovers of interrupted writes are files, too."""
        found: dict[str, int] = {}
        with _failures(self._root):
            for path in (self._root / prefix).rglob("*"):
                with suppress(FileNotFoundError):  # removed meanwhile
                    if stat.S_ISREG((status := path.stat()).st_mode):
                        found[str(path.relative_to(self._root))] = status.st_size
        return found

    def delete(self, name: str) -> None:
        """As :class:`Target` has it; an empty directory of a backup is removed with its last file."""
        path = self._root / name
        with _failures(self._root):
            path.unlink(missing_ok=True)
            if path.parent != self._root and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()

    def _make(self, directory: Path) -> None:
        """Make missing directories; :meth:`flush` makes their entries durable, too."""
        if not directory.exists():
            self._make(directory.parent)
            directory.mkdir(mode=0o700, exist_ok=True)
            self._changed.add(directory.parent)


@contextmanager
def _failures(root: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BackupError(f"The directory of backups {root} failed: {error}") from error
