"""The kernel reports each attempt to lock a file of the given devices, whatever comes of it."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import eventually
from worker.host.lock_attempts import LockAttempts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may follow the kernel's trace points")
WAIT_SECONDS = 0.2


def device_of(path: Path) -> tuple[int, int]:
    device = path.stat().st_dev
    return os.major(device), os.minor(device)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[LockAttempts]:
    made = LockAttempts({device_of(tmp_path), (0, 4095)})
    assert made.available
    yield made
    made.close()
    made.close()
    assert not made.available


def refused(lock: Callable[..., object]) -> Callable[[int], None]:
    def attempt(file: int) -> None:
        with pytest.raises(BlockingIOError):
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    return attempt


def taken_and_released(lock: Callable[..., object]) -> Callable[[int], None]:
    def attempt(file: int) -> None:
        lock(file, fcntl.LOCK_SH)
        lock(file, fcntl.LOCK_UN)

    return attempt


def in_child(path: Path, *acts: Callable[[int], object]) -> int:
    """A process that opens the file itself and does that; its pid, once it has ended."""
    if (pid := os.fork()) == 0:
        failed = 1
        try:
            file = os.open(path, os.O_RDWR)
            for act in acts:
                act(file)
            failed = 0
        finally:
            os._exit(failed)
    assert os.waitpid(pid, 0)[1] == 0
    return pid


def seen_before_long(attempts: LockAttempts, *expected: int) -> None:
    missing = set(expected)

    def are_seen() -> bool:
        missing.difference_update(attempts.wait(WAIT_SECONDS))
        return not missing

    eventually(are_seen, "the attempts are reported")


@pytest.mark.parametrize("lock", [fcntl.flock, fcntl.lockf], ids=["whole", "range"])
def test_refused_attempts_are_reported(
    attempts: LockAttempts, file: int, tmp_path: Path, lock: Callable[..., object]
) -> None:
    lock(file, fcntl.LOCK_EX)
    seen_before_long(attempts, os.getpid())
    seen_before_long(attempts, in_child(tmp_path / "file", refused(lock)))


@pytest.mark.parametrize("lock", [fcntl.flock, fcntl.lockf], ids=["whole", "range"])
def test_locks_released_at_once_are_reported(
    attempts: LockAttempts, tmp_path: Path, file: int, lock: Callable[..., object]
) -> None:
    seen_before_long(attempts, in_child(tmp_path / "file", taken_and_released(lock)))


def test_attempts_of_threads_on_every_processor_are_reported(attempts: LockAttempts, file: int, tmp_path: Path) -> None:
    fcntl.flock(file, fcntl.LOCK_EX)
    for processor in os.sched_getaffinity(0):
        if (pid := os.fork()) == 0:
            os.sched_setaffinity(0, {processor})
            other = os.open(tmp_path / "file", os.O_RDWR)
            thread = threading.Thread(target=refused(fcntl.flock), args=[other])
            thread.start()
            number = thread.native_id
            thread.join()
            os.write(file, b"%d\n" % (number or 0))
            os._exit(0)
        os.waitpid(pid, 0)
    seen_before_long(attempts, *map(int, (tmp_path / "file").read_text().split()))


def test_more_attempts_than_the_buffer_has_room_for_stop_no_reports(
    attempts: LockAttempts, file: int, tmp_path: Path
) -> None:
    fcntl.flock(file, fcntl.LOCK_EX)
    flooding = in_child(tmp_path / "file", *[refused(fcntl.flock)] * 10_000)
    seen_before_long(attempts, flooding)

    def is_another_seen() -> bool:  # the kernel pauses the reports until the processor's next tick
        return in_child(tmp_path / "file", refused(fcntl.flock)) in attempts.wait(WAIT_SECONDS)

    eventually(is_another_seen, "another attempt is reported")


def test_releasing_and_other_devices_are_not_reported(tmp_path: Path, file: int) -> None:
    fcntl.flock(file, fcntl.LOCK_EX)
    fcntl.lockf(file, fcntl.LOCK_EX)
    releases = LockAttempts({device_of(tmp_path)})
    others = LockAttempts({device_of(Path("/proc/self/ns/user"))})
    fcntl.flock(file, fcntl.LOCK_UN)
    fcntl.lockf(file, fcntl.LOCK_UN)
    assert os.getpid() not in releases.wait(WAIT_SECONDS)
    fcntl.flock(file, fcntl.LOCK_EX)
    assert os.getpid() in releases.wait(WAIT_SECONDS)  # the control
    assert os.getpid() not in others.wait(WAIT_SECONDS)
    releases.close()
    others.close()


def test_worker_without_the_right_gets_no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.host.lock_attempts.PERF_EVENT_OPEN", {})
    refused_events = LockAttempts({(0, 14)})
    assert not refused_events.available
    assert refused_events.wait(0.01) == set()
