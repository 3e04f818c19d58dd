"""File locks of programs: those on inodes that the whole host shares, and too many.

Theory of operation
===================
Linux charges file locks to no cgroup, and a lock on an inode that the whole host shares affects other sandboxes. The
worker holds those locks itself (:mod:`worker.host.lock_holder`). One thread watches for all other locks while programs
run. The kernel wakes the thread for each attempt to lock a shared inode, also for a refused attempt
(:mod:`worker.host.lock_attempts`). The thread also reads ``/proc/locks``, the kernel's list for the whole host. In the
list it looks for programs that have or wait for a lock on a shared inode (where the kernel reports no attempts to this
worker), and for programs with too many locks. Both ways detect a lock after the fact: the lock stands until its program
is ended. Where the kernel reports attempts, the list is read ten times a second, as it is where it is long.

Both ways name the process by its pid. The uid of an ended process can no longer be read: the attempt of a child that
ends and is reaped at once is logged, once, without an attribution. POSIX locks end with their process.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import structlog

from worker.host.lock_attempts import LockAttempts
from worker.host.lock_holder import LockHolder

LOCKS = Path("/proc/locks")
LOOK_SECONDS = 0.02
ATTEMPTS_SECONDS = 0.002  # between reading attempts: a program can cause a million a second until it has ended
PRIORITY = -20  # of the thread, which must read the uid of a process before the process ends
RETAKE_SECONDS = 1.0  # an attempt to lock wakes every worker of the host
LOOK_SHARE = 0.05  # of one processor for looks at the list, unless pauses would exceed the longest pause
LONGEST_PAUSE_SECONDS = 0.1
MAX_LOCKS = 2000  # of one program; a process can lock 1,024 files whole, and databases lock a dozen ranges
MAX_LINES = 20_000  # read at a time; the kernel's time for more lines grows with their square
LOCK = rb" (-?\d+) (%b):\d+ "  # the owner, and the device and inode of the file
ANY_DEVICE = rb"[0-9a-f]+:[0-9a-f]+"
UID = re.compile(r"^Uid:\t(\d+)", re.MULTILINE)
GONE = -1
PAGE_BYTES = 4096  # of the list that the kernel returns at a time
OPEN_FILE = -1  # in place of a pid: the owner is an open file

log = structlog.get_logger()
Why = Literal["shared_lock", "many_locks"]


class Lock(NamedTuple):
    """A lock: the pid of its owner, and the device of its file."""

    pid: int
    device: tuple[int, int]


class LockWatch:
    """Calls ``on_abuse(uid, why)`` for programs that run under the uids that ``followed`` gives.

    ``shared`` are the devices of inodes that all of the host share. ``unattributed`` is whether there was a lock on
    such an inode, or an attempt, that could not be attributed.
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
        self._on_shared = on_devices(self._shared)
        self._holder = LockHolder()
        self._attempts: LockAttempts | None = None
        self._seen: Counter[Lock] | None = None  # the locks on shared inodes when the worker last tried to lock them
        self._retake_at = 0.0
        self.unattributed = False
        self._needed, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="locks", daemon=True)

    def start(self) -> None:
        """Take the locks on shared inodes; start the thread if this kernel has a list of locks."""
        held_all = self._holder.take()
        self._attempts = LockAttempts(self._shared)
        log.info("locks.held", all=held_all, attempts_reported=self._attempts.available)
        if self._path.exists():
            self._thread.start()

    def close(self) -> None:
        """End the thread, and release the locks."""
        self._stopped.set()
        self._needed.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self._attempts is not None:
            self._attempts.close()
        self._holder.close()

    def need(self) -> None:
        """Wake the thread, since a program has started."""
        self._needed.set()

    def look(self, uids: Collection[int]) -> None:
        """Read the list once, take locks that others have released, and report the uids with forbidden locks.

        The rest of the list is not read when a uid has too many locks.
        """
        shared: Counter[Lock] = Counter()
        counts: Counter[int] = Counter()
        owners: dict[int, int] = {}
        for piece in read_list(self._path):
            shared += held(piece, self._on_shared)
            if counts or piece.count(b"\n") > MAX_LOCKS:
                for lock, count in held(piece).items():
                    if lock.pid not in owners:
                        owners[lock.pid] = uid_of(lock.pid)
                    counts[owners[lock.pid]] += count
                if many := [uid for uid in uids if counts[uid] > MAX_LOCKS]:
                    for uid in many:
                        self._on_abuse(uid, "many_locks")
                    break
        self._retake(shared)
        self._report_shared({lock.pid for lock in shared} - {OPEN_FILE, os.getpid()}, uids)

    def _retake(self, shared: Counter[Lock]) -> None:
        """Try to take the missing locks if the list has no other owner (one in another pid namespace is not listed), if
        its owners have changed, or after :data:`RETAKE_SECONDS`.
        """
        others = Counter({lock: count for lock, count in shared.items() if lock.pid != os.getpid()})
        if not others or others != self._seen or time.monotonic() >= self._retake_at:
            self._holder.take()
            self._seen, self._retake_at = others, time.monotonic() + RETAKE_SECONDS

    def _report_shared(self, pids: Collection[int], uids: Collection[int]) -> None:
        """Report the uids of these processes for a lock on a shared inode."""
        owners = {uid_of(pid) for pid in pids}
        if GONE in owners and not self.unattributed:
            self.unattributed = True
            log.warning("lock.unattributed", detail="A process locked a host-wide inode, or tried to, and has ended.")
        for uid in owners & set(uids):
            self._on_abuse(uid, "shared_lock")

    def _run(self) -> None:
        with suppress(OSError):  # a worker without the right to raise its priority
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PRIORITY)
        look_at = 0.0
        while not self._stopped.is_set():
            self._needed.wait()
            self._needed.clear()
            if not self._followed():
                continue
            self._needed.set()
            if self._attempts and (pids := self._attempts.wait(max(0.0, look_at - time.monotonic()))):
                self._report_shared(pids, self._followed())
                self._stopped.wait(ATTEMPTS_SECONDS)
            if time.monotonic() >= look_at:
                began = time.thread_time()
                self.look(self._followed())
                reported = self._attempts is not None and self._attempts.available
                look_at = time.monotonic() + pause_after(time.thread_time() - began, reported)


def pause_after(cpu_seconds: float, reported: bool) -> float:
    """The seconds until the next look, after a look that took so much CPU time.

    The longest pause if attempts to lock a shared inode are ``reported``: then nothing in the list is urgent.
    """
    shortest = LONGEST_PAUSE_SECONDS if reported else LOOK_SECONDS
    return min(max(shortest, cpu_seconds / LOOK_SHARE), LONGEST_PAUSE_SECONDS)


def read_list(path: Path) -> Iterator[bytes]:
    """The kernel's list of locks, a line for each, the newest of each processor first, to the page with the line
    :data:`MAX_LINES`. The first piece has more lines than :data:`MAX_LOCKS` if the list has; a further piece is a page.

    For each page the kernel waits for every process that sets a lock at that moment: with sixty such processes, for
    tens of milliseconds.
    """
    piece, lines = bytearray(), 0
    with path.open("rb", buffering=0) as file:
        while lines < MAX_LINES and (page := file.read(PAGE_BYTES)):
            piece += page
            lines += page.count(b"\n")
            if lines > MAX_LOCKS:
                yield bytes(piece)
                piece.clear()
    yield bytes(piece)


def on_devices(devices: Collection[tuple[int, int]]) -> re.Pattern[bytes]:
    """The pattern of the locks on files of these devices."""
    return re.compile(LOCK % b"|".join(b"%02x:%02x" % device for device in sorted(devices)))


ON_ANY_DEVICE = re.compile(LOCK % ANY_DEVICE)


def held(listed: bytes, pattern: re.Pattern[bytes] = ON_ANY_DEVICE) -> Counter[Lock]:
    """How often each lock that has the pattern is in the kernel's list."""
    found: Counter[Lock] = Counter()
    for (pid, device), count in Counter(pattern.findall(listed)).items():
        major, minor = device.split(b":")
        found[Lock(int(pid), (int(major, 16), int(minor, 16)))] = count
    return found


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
