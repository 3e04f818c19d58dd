"""File locks of programs: those on inodes that the whole host shares, and too many.

Theory of operation
===================
Linux counts file locks for no cgroup, and on inodes that all of the host share they reach from one sandbox to another.
The worker holds those locks itself (:mod:`worker.host.lock_holder`). What that leaves open is watched: one thread looks
into ``/proc/locks``, the kernel's list for the whole host, as long as programs run, and reports programs that have or
wait for a lock on a shared inode, and programs with more locks than any needs. That is after the fact: such a lock
stands until the next look (:func:`pause_after`), and until the program is ended for it.

The list names the process that set a lock by its number. The uid of an ended process can no longer be read: a
``flock`` set by a child that ended, on a file that its parent still has open, is logged once and not attributed. POSIX
locks end with their process.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import structlog

from worker.host.lock_holder import LockHolder

LOCKS = Path("/proc/locks")
LOOK_SECONDS = 0.02
LOOK_SHARE = 0.05  # of one processor, unless the list is so long that looks would come too seldom
LONGEST_PAUSE_SECONDS = 0.1
MAX_LOCKS = 2000  # of one program; 1,024 files of a process can be locked whole, and databases lock a dozen ranges
MAX_LINES = 20_000  # that are read at a time; reading more takes the kernel time that grows with their square
LINE = re.compile(rb"\d+:(?:\s*->)?\s+\S+\s+\S+\s+\S+\s+(\d+) ([0-9a-f]+):([0-9a-f]+):\d+ ")
UID = re.compile(r"^Uid:\t(\d+)", re.MULTILINE)
GONE = -1

log = structlog.get_logger()
Why = Literal["shared_lock", "many_locks"]


class Lock(NamedTuple):
    """A lock: the pid of its owner, and the device of its file."""

    pid: int
    device: tuple[int, int]


class LockWatch:
    """Calls ``on_abuse(uid, why)`` for programs that run under the uids that ``followed`` gives.

    ``shared`` are the devices of inodes that all of the host share. ``unattributed`` is whether there was a lock on
    such an inode that could not be attributed.
    """

    def __init__(
        self,
        followed: Callable[[], Collection[int]],
        on_abuse: Callable[[int, Why], None],
        path: Path = LOCKS,
        shared: Collection[tuple[int, int]] | None = None,
    ) -> None:
        self._followed, self._on_abuse, self._path = followed, on_abuse, path
        self._shared = shared_devices() if shared is None else shared
        self._holder = LockHolder()
        self.unattributed = False
        self._needed, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="locks", daemon=True)

    def start(self) -> None:
        """Hold the locks on shared inodes, and begin to look, unless this kernel has no list of locks."""
        log.info("locks.held", all=self._holder.take())
        if self._path.exists():
            self._thread.start()

    def close(self) -> None:
        """End the thread, and let go of the locks."""
        self._stopped.set()
        self._needed.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._holder.close()

    def need(self) -> None:
        """Wake the thread, since a program runs."""
        self._needed.set()

    def look(self, uids: Collection[int]) -> None:
        """Read the list once, and report the uids with forbidden locks."""
        locks = list(held(self._path))
        suspects = {lock.pid: "shared_lock" for lock in locks if lock.device in self._shared}
        owners = {pid: uid_of(pid) for pid in suspects}
        if GONE in owners.values() and not self.unattributed:
            self.unattributed = True
            log.warning("lock.unattributed", detail="An ended process left a lock on a host-wide inode.")
        if len(locks) > MAX_LOCKS:
            counts: Counter[int] = Counter()
            for pid, count in Counter(lock.pid for lock in locks).items():
                counts[owners.setdefault(pid, uid_of(pid))] += count
            for uid in uids:
                if counts[uid] > MAX_LOCKS:
                    self._on_abuse(uid, "many_locks")
        for uid in {owners[pid] for pid in suspects} & set(uids):
            self._on_abuse(uid, "shared_lock")

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._stopped.wait(pause):
            self._needed.wait()
            self._needed.clear()
            if uids := self._followed():
                self._needed.set()
                began = time.thread_time()
                self._holder.take()
                self.look(uids)
                pause = pause_after(time.thread_time() - began)


def pause_after(cpu_seconds: float) -> float:
    """Seconds between two looks, of which the last took so much CPU time."""
    return min(max(LOOK_SECONDS, cpu_seconds / LOOK_SHARE), LONGEST_PAUSE_SECONDS)


def held(path: Path) -> Iterator[Lock]:
    """The locks in the kernel's list, its first ``MAX_LINES``."""
    with path.open("rb") as file:
        for _, line in zip(range(MAX_LINES), file, strict=False):
            if found := LINE.match(line):
                pid, major, minor = found.groups()
                yield Lock(int(pid), (int(major, 16), int(minor, 16)))


def uid_of(pid: int) -> int:
    """The uid of a process; ``GONE`` if it has ended."""
    try:
        found = UID.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace"))
    except OSError:
        return GONE
    return int(found[1]) if found else GONE


def shared_devices() -> set[tuple[int, int]]:
    """The devices of inodes that the whole host shares: of event descriptors and of name spaces."""
    event = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        devices = {os.fstat(event).st_dev, Path("/proc/self/ns/user").stat().st_dev}
    finally:
        os.close(event)
    return {(os.major(device), os.minor(device)) for device in devices}
