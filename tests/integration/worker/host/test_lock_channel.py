"""Two sandboxes that try to pass a secret by file locks: a control, and the effect of the worker's own locks."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.builders.sandboxes.sandboxes import bench_for
from tests.harness import Way
from tests.hostile.sandbox import Bench
from worker.host.lock_holder import LockHolder

BITS = 128
FEW_BITS = 40
SLOT_SECONDS = 0.02
AHEAD_SECONDS = 2.0  # in which both programs have started
PROGRAM = """
import fcntl, os, struct, sys, time
role, how, target, begin, slot_seconds, bits = sys.argv[1:]
WANTED = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 7, 1, 0)
file = os.eventfd(0) if target == "event" else os.open(target, os.O_RDONLY if target.startswith("/proc") else os.O_RDWR)

def until(slot):
    while (left := float(begin) + slot * float(slot_seconds) - time.time()) > 0:
        time.sleep(left)

def lock(kind):
    try:
        if how == "whole": fcntl.flock(file, kind | fcntl.LOCK_NB)
        else: fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 7)
    except BlockingIOError:
        return False
    return True

def unlock():
    fcntl.flock(file, fcntl.LOCK_UN) if how == "whole" else fcntl.lockf(file, fcntl.LOCK_UN, 1, 7)

def is_locked():
    if how == "range":
        return struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, WANTED))[0] != fcntl.F_UNLCK
    if lock(fcntl.LOCK_SH):
        unlock()
        return False
    return True

heard = ""
for number, bit in enumerate(bits):
    until(number)
    if role == "tell" and bit == "1": lock(fcntl.LOCK_EX)
    until(number + 0.5)
    if role == "hear": heard += str(int(is_locked()))
    until(number + 0.9)
    if role == "tell" and bit == "1": unlock()
print(heard)
"""


@pytest.fixture
def bench(images: Path, need_runtime: Callable[..., None], tmp_path: Path) -> Iterator[Bench]:
    with bench_for(Way("docker-runc"), tmp_path / "bench", images, need_runtime) as made:
        yield made


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A file that both sandboxes have."""
    file = tmp_path / "shared"
    file.touch()
    file.chmod(0o666)
    return file


def received(bench: Bench, shared: Path, how: str, target: str, bits: int, ahead_seconds: float) -> tuple[str, str]:
    """A secret that one sandbox sends, and the value that the other receives."""
    secret = f"{secrets.randbits(bits):0{bits}b}"
    begin = time.time() + ahead_seconds
    about = (how, target, str(begin), str(SLOT_SECONDS))

    def share(config: dict[str, Any]) -> None:
        mount = {"Type": "bind", "Source": str(shared), "Target": "/shared", "ReadOnly": False}
        config["HostConfig"]["Mounts"].append(mount)

    with bench.sandbox(edit=share) as sender, bench.sandbox(edit=share) as receiver:
        telling = threading.Thread(target=sender.run, args=(PROGRAM, "tell", *about, secret))
        telling.start()
        ran = receiver.run(PROGRAM, "hear", *about, "0" * bits)
        telling.join()
    assert ran.exit["exit_code"] == 0, ran.stderr
    return secret, ran.stdout.strip()


@pytest.mark.alone
@pytest.mark.parametrize("how", ["whole", "range"])
def test_locks_of_a_shared_file_carry_a_secret(bench: Bench, shared: Path, how: str) -> None:
    """The control: without the worker's locks all bits arrive."""
    secret, found = received(bench, shared, how, "/shared", BITS, AHEAD_SECONDS)
    assert sum(a == b for a, b in zip(secret, found, strict=True)) > 0.7 * BITS  # half of them by chance


@pytest.mark.parametrize("how", ["whole", "range"])
@pytest.mark.parametrize("target", ["/shared", "event", "/proc/self/ns/user", "/proc/self/ns/time"])
def test_locks_that_the_worker_has_carry_no_secret(bench: Bench, shared: Path, how: str, target: str) -> None:
    with closing(LockHolder()) as everywhere, closing(LockHolder(lambda: [os.open(shared, os.O_RDWR)])) as here:
        assert here.take()
        while True:
            took = everywhere.take()  # unless a worker of this host has it
            # A late start loses no bit here: each look finds the worker's lock, whatever the sender does.
            _, found = received(bench, shared, how, target, FEW_BITS, AHEAD_SECONDS / 4)
            if took or not everywhere.take():
                break  # otherwise that worker has ended meanwhile, and no process had the locks
    assert found == "1" * FEW_BITS
