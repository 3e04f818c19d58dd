"""Artifacts saved under a directory and nowhere else, whatever their names are and whatever lies there already.

The names come from a program that nobody trusts. Every directory on the way is opened without following symbolic
links, relative to the one before; the file is written under a new name and then renamed, so that a link with its name
is replaced, not followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafePath(Exception):
    """An artifact's path leads out of the directory it is to be saved in."""


def components(path: str) -> list[str]:
    """The names a relative path consists of. Raises :class:`UnsafePath` for any other."""
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise UnsafePath(f"{path!r} is not a plain relative path; it was not saved.")
    return parts


def save(directory: Path, path: str, pieces: Iterable[bytes], sha256: str | None = None) -> Path:
    """Write ``pieces`` to ``path`` under ``directory``, which is made if need be; return where that is.

    A file of that name is replaced. Raises :class:`UnsafePath` when the path is not plain or crosses a symbolic link,
    and when the bytes are not those of ``sha256``; ``OSError`` when it cannot be written. Then nothing is left behind.
    """
    import hashlib  # not above: most programs leave nothing to save, and it takes as long as a request

    *parents, name = components(path)
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        where = _opened(stack, directory, None)
        for parent in parents:
            with suppress(FileExistsError):
                os.mkdir(parent, dir_fd=where)
            try:
                where = _opened(stack, parent, where)
            except OSError as error:
                raise UnsafePath(f"{path!r} crosses {parent!r}, which is no directory; it was not saved.") from error
        partial = f".{os.urandom(8).hex()}.partial"
        digest = hashlib.sha256()
        try:
            with os.fdopen(os.open(partial, NEW_FILE, 0o666, dir_fd=where), "wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
            if sha256 is not None and digest.hexdigest() != sha256:
                raise UnsafePath(f"{path!r} arrived with another digest than announced; it was not saved.")
            os.rename(partial, name, src_dir_fd=where, dst_dir_fd=where)
        except BaseException:
            _remove(partial, where)
            raise
    return directory / path


def _opened(stack: ExitStack, name: str | Path, within: int | None) -> int:
    follow = 0 if within is None else os.O_NOFOLLOW  # the directory itself was the user's own choice
    descriptor = os.open(name, DIRECTORY | follow, dir_fd=within)
    stack.callback(os.close, descriptor)
    return descriptor


def _remove(name: str, within: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=within)
