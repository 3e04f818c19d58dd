"""Saves artifacts under a directory and nowhere else, for any names and any existing files.

The names come from a program that is not trusted. Every directory on the way is opened without following symbolic
links, relative to the one before; the file is written under a new name and then renamed, so that a link with its name
is replaced, not followed.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mayfly.errors import UnsafeArtifact

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def components(path: str) -> list[str]:
    """The names a relative path consists of. Raises :class:`UnsafeArtifact` for any other."""
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise UnsafeArtifact(f"{path!r} is not a plain relative path; it was not saved.")
    return parts


class Destination:
    """Where one artifact is written: ``path`` under ``directory``, which is made if need be.

    Used in a ``with`` statement: :meth:`write` each piece, then :meth:`commit`, which replaces a file of that name.
    Without the latter nothing is left behind. Raises :class:`UnsafeArtifact` when the path is not plain or crosses a
    symbolic link, ``OSError`` when it cannot be written.
    """

    def __init__(self, directory: Path, path: str, sha256: str | None = None) -> None:
        import hashlib  # not above: most programs leave nothing to save, and it takes as long as a request

        *parents, self._name = components(path)
        self._path, self._place, self._sha256 = path, directory / path, sha256
        self._partial = f".{os.urandom(8).hex()}.partial"
        self._digest = hashlib.sha256()
        directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._within = _opened(stack, directory, None)
            for parent in parents:
                with suppress(FileExistsError):
                    os.mkdir(parent, dir_fd=self._within)
                try:
                    self._within = _opened(stack, parent, self._within)
                except OSError as error:
                    raise UnsafeArtifact(
                        f"{path!r} crosses {parent!r}, which is no directory; it was not saved."
                    ) from error
            self._file = stack.enter_context(
                os.fdopen(os.open(self._partial, NEW_FILE, 0o666, dir_fd=self._within), "wb")
            )
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack, suppress(FileNotFoundError):
            os.unlink(self._partial, dir_fd=self._within)

    def write(self, piece: bytes) -> None:
        """Add bytes. Raises ``OSError``."""
        self._digest.update(piece)
        self._file.write(piece)

    def commit(self) -> Path:
        """Give the file its name; return where it is. Raises :class:`UnsafeArtifact` for other bytes than announced."""
        if self._sha256 is not None and self._digest.hexdigest() != self._sha256:
            raise UnsafeArtifact(f"{self._path!r} arrived with another digest than announced; it was not saved.")
        self._file.flush()
        os.rename(self._partial, self._name, src_dir_fd=self._within, dst_dir_fd=self._within)
        return self._place


def _opened(stack: ExitStack, name: str | Path, within: int | None) -> int:
    follow = 0 if within is None else os.O_NOFOLLOW  # the directory itself was the user's own choice
    descriptor = os.open(name, DIRECTORY | follow, dir_fd=within)
    stack.callback(os.close, descriptor)
    return descriptor
