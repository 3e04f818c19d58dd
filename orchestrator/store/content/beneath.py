"""Directories and files beneath a root that another user may change, opened without following links.

API and worker share the blob directory. A worker that was taken over may replace any part of it, also by a link to a
file or directory that the API alone may read or remove. So each step is opened as the directory that it then is, and
paths begin with its descriptor. The root itself is the operator's, and may be a link.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe without another end blocks no reader


@contextmanager
def directory(root: Path, *names: str, made: bool = False) -> Iterator[Path]:
    """A path to the directory ``names`` beneath ``root``, which leads to it until the end, whatever replaces a name.

    ``made`` makes missing directories. Raises ``FileNotFoundError``, also for a link, and ``OSError``.
    """
    if made and not root.exists():
        root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root, DIRECTORY)
    try:
        for name in names:
            below = _opened(descriptor, name, made)
            os.close(descriptor)
            descriptor = below
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def open_file(path: str | Path, flags: int, mode: int = 0o600) -> int:
    """Open a file of such a directory, as ``os.open``; an opener of ``open``. A link counts as missing."""
    try:
        return os.open(path, flags | FILE, mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(errno.ENOENT, "a link", str(path)) from error
        raise


def _opened(parent: int, name: str, made: bool) -> int:
    try:
        return os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except NotADirectoryError as error:  # a link, or a file
        raise FileNotFoundError(errno.ENOENT, "no directory", name) from error
    except FileNotFoundError:
        if not made:
            raise
    with suppress(FileExistsError):  # another process was faster
        Path(f"/proc/self/fd/{parent}", name).mkdir()
    return _opened(parent, name, made=False)
