"""Locks of programs are found in the kernel's list, with their owners."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import eventually
from worker.attempt.incidents import Incidents
from worker.attempt.security_events import Watch
from worker.host.locks import GONE, LOCKS, MAX_LOCKS, Lock, LockWatch, held, shared_devices, uid_of

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
    """A process that has done that, and waits."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        act()
        os.write(done, b".")
        os.close(ready)
        os.read(os.pipe()[0], 1)  # until it is killed
    os.read(ready, 1)
    os.close(ready)
    os.close(done)
    try:
        yield pid
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def of_event(lock: Callable[..., object], kind: int) -> Callable[[], object]:
    return lambda: lock(os.eventfd(0), kind)


def of_namespace() -> None:
    fcntl.flock(os.open("/proc/self/ns/time", os.O_RDONLY), fcntl.LOCK_SH)


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


def test_the_kernels_list_is_read(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text(LIST)
    assert list(held(tmp_path / "locks")) == [
        Lock(3568, (0xFD, 0)), Lock(12, (0, 14)), Lock(13, (0, 14)), Lock(14, (8, 1)),
    ]  # fmt: skip


def test_uid_of_a_process_is_known_until_it_ends() -> None:
    assert uid_of(os.getpid()) == os.getuid()
    assert uid_of(2**22 + 1) == GONE


@pytest.mark.parametrize(
    "act",
    [of_event(fcntl.lockf, fcntl.LOCK_EX), of_event(fcntl.flock, fcntl.LOCK_EX), of_namespace],
    ids=["range of an event descriptor", "event descriptor", "name space"],
)
def test_lock_on_a_host_wide_inode_is_found(act: Callable[[], object]) -> None:
    own = os.getuid()
    assert seen({own}) == []
    with child(act):
        assert seen({own}) == [(own, "shared_lock")]
        assert seen({own + 1}) == []  # somebody else's


def by_a_child_that_ends() -> None:
    event = os.eventfd(0)
    if (pid := os.fork()) == 0:
        fcntl.flock(event, fcntl.LOCK_EX)
        os._exit(0)
    os.waitpid(pid, 0)


def test_lock_of_an_ended_process_is_logged_and_not_attributed() -> None:
    found: list[int] = []
    watch = LockWatch(lambda: (), lambda uid, _: found.append(uid))
    with child(by_a_child_that_ends):
        watch.look({os.getuid()})
    assert (watch.unattributed, found) == (True, [])


def test_file_locks_are_an_abuse_only_in_great_number(tmp_path: Path) -> None:
    own = os.getuid()
    with child(ranges(tmp_path / "few", MAX_LOCKS // 2)):
        assert seen({own}) == []
        with child(ranges(tmp_path / "more", MAX_LOCKS // 2 + 1)):
            assert seen({own}) == [(own, "many_locks")]


def test_program_with_a_host_wide_lock_is_ended() -> None:
    watch, incidents, other = Watch(), Incidents(), Incidents()
    watch.locks.start()
    try:
        watch.follow(os.getuid() + 1, other)
        with child(of_namespace):
            watch.follow(os.getuid(), incidents)
            eventually(lambda: incidents.flooded, "it is seen")
        [event] = incidents.take()
        assert (event["kind"], event["why"], event["attribution"]) == ("seccomp_violation", "shared_lock", "host")
        assert not incidents.denied_too_often
        assert not other.flooded
    finally:
        watch.locks.close()
        watch.kernel.close()


def test_event_descriptors_and_name_spaces_are_on_devices_of_their_own(tmp_path: Path) -> None:
    devices = shared_devices()
    assert len(devices) == 2
    for path in (tmp_path, Path("/dev/null"), Path("/proc/self/status")):
        device = path.stat().st_dev
        assert (os.major(device), os.minor(device)) not in devices
