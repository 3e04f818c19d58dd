"""The worker's locks on the inodes that all processes of a host share, so that no program can lock them.

Theory of operation
===================
All event descriptors of a host (epoll, eventfd, timerfd, …) have one inode, and the name spaces that containers share
(user, time) have one each. A lock on such an inode affects other sandboxes. A filter cannot see which file a call is
for; but an exclusive lock has one owner. So the worker holds these locks as long as it lives:

* an exclusive ``flock``: a program's ``flock``, exclusive or shared, fails with EAGAIN or waits for ever;
* a range lock from byte 0 to the end, by ``F_OFD_SETLK``: unlike a POSIX lock it belongs to the open file, so that no
  close of another descriptor in this process releases it. On event descriptors it is exclusive, and a program's own
  range, exclusive or shared, fails. ``F_GETLK`` shows each program the worker's lock and nothing else.

The file of a namespace cannot be opened for writing, which an exclusive range needs: there the worker's range is
shared. A program can still set a shared range beside it, for which :mod:`worker.host.locks` ends the program. But the
program cannot see another program's range: ``F_GETLK`` shows the first conflicting range, and the worker's range
precedes all that were set later.

Of several workers on one host the first holds the exclusive locks; the others try again while programs run, and get
the locks as soon as the first worker has ended.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress

NAMESPACES = ("user", "time")  # that containers share with the host
RANGE = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length (0: to the end), pid


def shared_files() -> list[int]:
    """A descriptor of each shared inode, opened for writing where possible."""
    descriptors = [os.eventfd(0, os.EFD_CLOEXEC)]
    for name in NAMESPACES:
        with suppress(FileNotFoundError):  # a kernel without such namespaces
            descriptors.append(_opened(f"/proc/self/ns/{name}"))
    return descriptors


class LockHolder:
    """Holds every lock of some files. Used by one thread at a time."""

    def __init__(self, files: Callable[[], Iterable[int]] = shared_files) -> None:
        self._open = files
        self._files: list[int] | None = None
        self._missing: list[tuple[Callable[[int], None], int]] = []

    def take(self) -> bool:
        """Take the missing locks without waiting. Returns whether all are held."""
        if self._files is None:
            self._files = list(self._open())
            self._missing = [(lock, file) for file in self._files for lock in (_lock_whole, _lock_range)]
        self._missing = [(lock, file) for lock, file in self._missing if not _taken(lock, file)]
        return not self._missing

    def close(self) -> None:
        """Release everything. Idempotent."""
        for file in self._files or ():
            os.close(file)
        self._files, self._missing = [], []


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _taken(lock: Callable[[int], None], file: int) -> bool:
    try:
        lock(file)
    except BlockingIOError:  # another worker holds the lock, or a program, which is ended for that
        return False
    return True


def _lock_whole(file: int) -> None:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_range(file: int) -> None:
    writable = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    kind = fcntl.F_WRLCK if writable else fcntl.F_RDLCK
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, RANGE.pack(kind, os.SEEK_SET, 0, 0, 0))
