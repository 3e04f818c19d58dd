"""Locks of programs are found in the kernel's list, with their owners."""

from __future__ import annotations

import fcntl
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.models.security import Refusal
from tests.harness import eventually
from worker.attempt.incidents import Incidents
from worker.attempt.security_events import Watch
from worker.host.lock_holder import LockHolder
from worker.host.locks import (
    GONE,
    LOCKS,
    MAX_LINES,
    MAX_LOCKS,
    Lock,
    LockWatch,
    held,
    on_devices,
    pause_after,
    read_list,
    shared_devices,
    uid_of,
)

UID = 1_999_999_999 if os.geteuid() == 0 else os.geteuid()  # as root, a uid without other processes
pytestmark = pytest.mark.skipif(not LOCKS.exists(), reason="this kernel has no list of locks")
LIST = """\
1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF
2: FLOCK  ADVISORY  WRITE 12 00:0e:1045 0 EOF
2: -> FLOCK  ADVISORY  WRITE 13 00:0e:1045 0 EOF
3: OFDLCK ADVISORY  READ -1 08:01:5 0 100
4: LEASE  ACTIVE    READ 14 08:01:6 0 EOF
something else
"""


@contextmanager
def child(act: Callable[[], object]) -> Iterator[int]:
    """A process that does that, which may be to wait for a lock, and waits."""
    pid = os.fork()
    if pid == 0:
        act()
        os.read(os.pipe()[0], 1)  # until it is killed
    try:
        yield pid
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def of_event(lock: Callable[..., object], kind: int) -> Callable[[], object]:
    return lambda: lock(os.eventfd(0), kind)


def of_namespace() -> None:
    fcntl.flock(os.open("/proc/self/ns/time", os.O_RDONLY), fcntl.LOCK_SH)


def as_another(act: Callable[[], object]) -> Callable[[], object]:
    """The same as the user :data:`UID`."""

    def act_as_another() -> None:
        os.setuid(UID)  # to its own uid a process may always change
        act()

    return act_as_another


def ranges(path: Path, count: int) -> Callable[[], object]:
    def lock() -> None:
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        for number in range(count):
            fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * number)

    return lock


def seen(uids: set[int]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    LockWatch(lambda: (), lambda uid, why: found.append((uid, why))).look(uids)
    return found


def listed(pid: int) -> int:
    """How many locks a process has, or waits for."""
    return sum(count for piece in read_list(LOCKS) for lock, count in held(piece).items() if lock.pid == pid)


def test_the_kernels_list_is_read(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text(LIST)
    [listed] = read_list(tmp_path / "locks")
    assert list(held(listed).elements()) == [
        Lock(3568, (0xFD, 0)), Lock(12, (0, 14)), Lock(13, (0, 14)), Lock(-1, (8, 1)), Lock(14, (8, 1)),
    ]  # fmt: skip
    assert list(held(listed, on_devices({(8, 1), (0xFD, 0)})).elements()) == [
        Lock(3568, (0xFD, 0)), Lock(-1, (8, 1)), Lock(14, (8, 1)),
    ]  # fmt: skip


def test_list_of_locks_is_read_in_pieces_up_to_its_bound(tmp_path: Path) -> None:
    line = "1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 9223372036854775806 9223372036854775807\n"
    (tmp_path / "locks").write_text(line * (2 * MAX_LINES))
    first, *others = (piece.count(b"\n") for piece in read_list(tmp_path / "locks"))
    assert MAX_LOCKS < first < MAX_LOCKS + 100
    assert max(others) < 100
    assert MAX_LINES <= first + sum(others) < MAX_LINES + 100
    with child(ranges(tmp_path / "file", 300)) as pid:  # more than the kernel returns at a time
        eventually(lambda: listed(pid) == 300, "every lock is listed")


class CountingHolder(LockHolder):
    """Counts the attempts to take locks."""

    attempts = 0

    def take(self) -> bool:
        self.attempts += 1
        return super().take()


def test_held_locks_are_tried_again_when_their_owners_change_and_seldom_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.host.locks.RETAKE_SECONDS", math.inf)
    path = tmp_path / "locks"
    watch = LockWatch(lambda: (), lambda uid, why: None, path, {(0, 0x0E)})
    watch._holder = holder = CountingHolder(lambda: ())
    line = "1: FLOCK  ADVISORY  WRITE 1 00:0e:1045 0 EOF\n"
    of_another_file = "2: FLOCK  ADVISORY  WRITE 1 fd:00:1045 0 EOF\n"
    own = f"4: FLOCK  ADVISORY  WRITE {os.getpid()} 00:0e:1046 0 EOF\n"
    of_an_open_file = "3: OFDLCK ADVISORY  WRITE -1 00:0e:1045 0 EOF\n"
    found = []
    texts = (
        line, line + of_another_file, line + line, line + line, line + of_an_open_file, line,
        line + own, own, "", line, line,
    )  # fmt: skip
    for text in texts:
        path.write_text(text, encoding="ascii")
        watch.look(())
        found.append(holder.attempts)
    assert found == [1, 1, 2, 2, 3, 4, 4, 5, 6, 7, 7]
    watch._retake_at = 0.0
    watch.look(())
    assert holder.attempts == 8
    assert not watch.unattributed, "an open file has no pid"


def test_locks_of_the_workers_own_process_are_no_abuse(tmp_path: Path) -> None:
    """Another process of the same user is the control."""
    path = tmp_path / "locks"
    found: list[int] = []
    watch = LockWatch(lambda: (), lambda uid, _: found.append(uid), path, {(0, 0x0E)})
    watch._holder = LockHolder(lambda: ())
    with child(lambda: None) as another:
        for pid, expected in ((os.getpid(), []), (another, [os.getuid()])):
            path.write_text(f"1: FLOCK  ADVISORY  WRITE {pid} 00:0e:1045 0 EOF\n", encoding="ascii")
            watch.look({os.getuid()})
            assert found == expected


def test_list_is_read_no_further_than_needed_to_find_too_many_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further page takes tens of milliseconds while many processes set locks."""
    found: list[tuple[int, str]] = []
    pages: list[int] = []

    def listed(path: Path) -> Iterator[bytes]:
        for number in range(4):
            pages.append(number)
            yield (
                b"1: POSIX  ADVISORY  WRITE %d fd:00:2531452 0 0\n"
                % os.getpid()
                * (MAX_LOCKS + 1 if number == 2 else 10)
            )

    monkeypatch.setattr("worker.host.locks.read_list", listed)
    watch = LockWatch(lambda: (), lambda *report: found.append(report), shared={(0, 0x0E)})
    watch._holder = LockHolder(lambda: ())
    watch.look({os.getuid() + 1})
    assert (found, pages) == ([], [0, 1, 2, 3])
    watch.look({os.getuid(), os.getuid() + 1})
    assert (found, pages[4:]) == ([(os.getuid(), "many_locks")], [0, 1, 2])


@pytest.mark.parametrize(("cpu_seconds", "pause"), [(0.0, 0.02), (0.002, 0.04), (0.06, 0.1), (9.0, 0.1)])
def test_looks_cost_little_and_a_long_list_cannot_delay_them(cpu_seconds: float, pause: float) -> None:
    assert pause_after(cpu_seconds, reported=False) == pytest.approx(pause)
    assert pause_after(cpu_seconds, reported=True) == pytest.approx(0.1)


def test_uid_of_a_process_is_known_until_its_end() -> None:
    assert uid_of(os.getpid()) == os.getuid()
    assert uid_of(2**22 + 1) == GONE


@pytest.mark.parametrize(
    "act",
    [of_event(fcntl.lockf, fcntl.LOCK_EX), of_event(fcntl.flock, fcntl.LOCK_EX), of_namespace],
    ids=["range of an event descriptor", "event descriptor", "name space"],
)
def test_lock_on_a_host_wide_inode_is_found(act: Callable[[], object]) -> None:
    """Also where a worker of this host has the lock, and the program waits for it."""
    with child(as_another(act)):
        eventually(lambda: seen({UID}) == [(UID, "shared_lock")], "the lock is found")
        assert seen({UID + 1}) == []  # another sandbox's


def test_lock_of_an_ended_process_is_logged_and_not_attributed(tmp_path: Path) -> None:
    file, found = tmp_path / "file", [0][:0]

    def by_a_child_that_ends() -> None:
        opened = os.open(file, os.O_RDWR | os.O_CREAT)
        if (pid := os.fork()) == 0:
            fcntl.flock(opened, fcntl.LOCK_EX)
            os._exit(0)
        os.waitpid(pid, 0)

    device = tmp_path.stat().st_dev
    shared = {(os.major(device), os.minor(device))}
    watch = LockWatch(lambda: (), lambda uid, _: found.append(uid), shared=shared)
    with child(by_a_child_that_ends) as parent:

        def is_noted() -> bool:
            watch.look({uid_of(parent)})
            return watch.unattributed

        eventually(is_noted, "the lock is logged")


def test_file_locks_are_an_abuse_only_in_great_number(tmp_path: Path) -> None:
    own = os.getuid()
    few, more = MAX_LOCKS // 2, MAX_LOCKS // 2 + 1
    with child(ranges(tmp_path / "few", few)) as first:
        eventually(lambda: listed(first) == few, "the first process has a few locks")
        assert (own, "many_locks") not in seen({own})
        with child(ranges(tmp_path / "more", more)) as second:
            eventually(lambda: listed(second) == more, "the second process has more locks")
            assert (own, "many_locks") in seen({own})


def test_program_with_a_host_wide_lock_is_ended() -> None:
    watch, incidents, other = Watch(), Incidents(), Incidents()
    watch.locks.start()
    try:
        watch.follow(UID + 1, other)
        asked = threading.Event()
        incidents.on_end(asked.set)
        with child(as_another(of_namespace)):
            watch.follow(UID, incidents)
            assert asked.wait(20)
        assert incidents.flooded
        [event] = incidents.take()
        assert (event.kind, event.attribution, event.evidence) == ("seccomp_violation", "host", Refusal("shared_lock"))
        assert not incidents.denied_too_often
        assert not other.flooded
    finally:
        watch.locks.close()
        watch.kernel.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may follow the kernel's trace points")
@pytest.mark.parametrize("lock", [fcntl.flock, fcntl.lockf], ids=["whole", "range"])
def test_program_whose_host_wide_lock_is_refused_is_ended(lock: Callable[..., object]) -> None:
    """The worker, or another worker of this host, has the lock; the kernel's list shows no trace of the attempt."""
    watch, incidents, asked = Watch(), Incidents(), threading.Event()
    incidents.on_end(asked.set)

    def be_refused() -> None:
        with pytest.raises(BlockingIOError):
            lock(os.eventfd(0), fcntl.LOCK_EX | fcntl.LOCK_NB)

    watch.locks.start()
    try:
        watch.follow(UID, incidents)
        with child(as_another(be_refused)):
            assert asked.wait(20)
            assert seen({UID}) == []
        [event] = incidents.take()
        assert (event.kind, event.attribution, event.evidence) == ("seccomp_violation", "host", Refusal("shared_lock"))
    finally:
        watch.locks.close()
        watch.kernel.close()


def test_event_descriptors_and_name_spaces_are_on_devices_of_their_own(tmp_path: Path) -> None:
    devices = shared_devices()
    assert len(devices) == 2
    for path in (tmp_path, Path("/dev/null"), Path("/proc/self/status")):
        device = path.stat().st_dev
        assert (os.major(device), os.minor(device)) not in devices
