"""No other process can take the worker's locks, and the worker takes a lock as soon as it is free."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.harness import eventually
from worker.host.lock_holder import NAMESPACES, RANGE, LockHolder, shared_files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    return path


def opening(path: Path, flags: int = os.O_RDWR) -> Callable[[], Iterator[int]]:
    return lambda: iter([os.open(path, flags | os.O_CLOEXEC)])


def in_a_child(opened: Callable[[], int], *attempts: Callable[[int], object]) -> list[bool]:
    """The attempts that succeed in another process, which opens the file itself."""
    answers, answer = os.pipe()
    if (pid := os.fork()) == 0:
        file = opened()
        for attempt in attempts:
            try:
                attempt(file)
            except BlockingIOError:
                os.write(answer, b"-")
            else:
                os.write(answer, b"+")
        os._exit(0)
    os.close(answer)
    os.waitpid(pid, 0)
    with os.fdopen(answers, "rb") as printed:
        return [byte == ord("+") for byte in printed.read()]


def whole_exclusive(file: int) -> None:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def whole_shared(file: int) -> None:
    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def range_exclusive(file: int) -> None:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1_000_000)


def range_shared(file: int) -> None:
    fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 7)


EVERY = (whole_exclusive, whole_shared, range_exclusive, range_shared)


def in_the_way(file: int) -> tuple[int, ...]:
    """The conflict of an exclusive lock of byte 7: type, whence, start, length, pid."""
    wanted = RANGE.pack(fcntl.F_WRLCK, os.SEEK_SET, 7, 1, 0)
    return RANGE.unpack(fcntl.fcntl(file, fcntl.F_GETLK, wanted))


def test_no_other_process_gets_a_lock_that_is_held(file: Path) -> None:

    def opened() -> int:
        return os.open(file, os.O_RDWR)

    assert in_a_child(opened, *EVERY) == [True] * 4  # the control
    holder = LockHolder(opening(file))
    assert holder.take()
    assert holder.take()
    assert in_a_child(opened, *EVERY) == [False] * 4
    os.close(os.open(file, os.O_RDWR))  # which would release a POSIX lock of this process
    assert in_a_child(opened, *EVERY) == [False] * 4
    holder.close()
    holder.close()
    assert in_a_child(opened, *EVERY) == [True] * 4


def test_a_shared_range_of_the_worker_hides_those_of_programs(file: Path) -> None:
    """As on the file of a name space, which no process can open for writing."""
    opened = os.open(file, os.O_RDWR)
    holder = LockHolder(opening(file, os.O_RDONLY))
    assert holder.take()
    before = in_the_way(opened)
    assert in_a_child(lambda: os.open(file, os.O_RDWR), whole_shared, range_exclusive) == [False, False]
    ready, go = os.pipe(), os.pipe()
    if (pid := os.fork()) == 0:
        holder.close()  # its own descriptors of the files
        range_shared(opened)
        os.write(ready[1], b".")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    held = in_the_way(opened)
    holder.close()
    released = in_the_way(opened)
    os.write(go[1], b".")
    os.waitpid(pid, 0)
    assert held == before == (fcntl.F_RDLCK, 0, 0, 0, -1)
    assert released == (fcntl.F_RDLCK, 0, 7, 1, pid)  # the control
    for descriptor in (*ready, *go, opened):
        os.close(descriptor)


def test_the_next_worker_has_the_locks_when_the_first_has_ended(file: Path) -> None:
    first, second = LockHolder(opening(file)), LockHolder(opening(file))
    assert first.take()
    assert not second.take()
    first.close()
    assert second.take()
    second.close()


def test_event_descriptors_and_name_spaces_are_held() -> None:
    """By this holder, or by another worker of this host."""
    holder = LockHolder()
    with suppress(AssertionError):  # a test of another lane has them for a moment, a worker of this host for long
        eventually(holder.take, "the locks are this holder's", 10)
    event = os.eventfd(0)
    assert in_a_child(lambda: os.eventfd(0), *EVERY) == [False] * 4
    for name in NAMESPACES:
        space = partial(os.open, f"/proc/self/ns/{name}", os.O_RDONLY)
        assert in_a_child(space, whole_exclusive, whole_shared) == [False] * 2
    assert in_a_child(partial(os.open, __file__, os.O_RDONLY), whole_shared) == [True]  # the control
    assert in_the_way(event) == (fcntl.F_WRLCK, 0, 0, 0, -1)
    holder.close()
    os.close(event)


def test_shared_files_are_those_of_all_the_host() -> None:
    files = shared_files()
    event = os.eventfd(0)
    assert os.path.sameopenfile(files[0], event)
    assert NAMESPACES == ("user", "time")  # the kinds that containers do not have of their own
    for file, name in zip(files[1:], NAMESPACES, strict=True):
        assert os.path.samestat(os.fstat(file), os.stat(f"/proc/self/ns/{name}"))
    for file in (*files, event):
        os.close(file)
