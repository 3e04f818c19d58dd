"""Calls with arguments inside and beside each class of ``worker/sandbox/arguments.py``: name, fate and arguments.

Descriptors, addresses and processes are such that none is there, so that a call that is let through does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from worker.sandbox.arguments import (
    FADVISE,
    FCNTL,
    GET,
    IOCTL,
    MADVISE,
    MAP_HUGETLB,
    O_DIRECT,
    SET_AND_GET,
)
from worker.sandbox.syscalls import number_of

ALLOWED, DENIED = "allowed", "denied"
NO_EFFECT = "no effect"  # answered with success
HIGH = (0, 2**32)  # the kernel takes an int, whatever lies above it
PROCESSES = (0, 1, 2**20, 2**21, 2**21 + 1, 2**32 + 1, 2**32 + 2**21)
Around = Iterator[tuple[str, str, tuple[int, ...]]]


def around_classes(machine: str) -> Around:
    """All of them."""
    yield from _sockets()
    yield from _descriptors()
    yield from _flags(machine)
    yield from _memory()
    yield from _processes()


def _fate(allowed: bool) -> str:
    return ALLOWED if allowed else DENIED


def _sockets() -> Around:
    for high in HIGH:
        for option in range(90):
            yield "setsockopt", _fate(option in SET_AND_GET.values()), (-1, 1 + high, option + high)
            known = {*SET_AND_GET.values(), *GET.values()}
            yield "getsockopt", _fate(option in known), (-1, 1 + high, option + high)
    for level in (0, 2, 6, 17, 41, 270):
        for option in (1, 2, 26, 31, 64):
            yield "setsockopt", DENIED, (-1, level, option)
            yield "getsockopt", DENIED, (-1, level, option)


def _descriptors() -> Around:
    others = (0x4004B701, 0xC020660B, 0x40049409, 0x12)
    for high in HIGH:
        for command in {*range(40), *range(1020, 1045)} - {4}:
            yield "fcntl", _fate(command in FCNTL.values()), (-1, command + high)
        for request in (*range(0x5400, 0x5470), *range(0x8900, 0x89A0), *others):
            yield "ioctl", _fate(request in IOCTL.values()), (-1, request + high)


def _flags(machine: str) -> Around:
    direct = O_DIRECT[machine]
    for flag in (0, 0x800, 0x400, 0x2000, direct, direct | 0x800, direct + 2**32):
        yield "fcntl", _fate(not flag & (direct | 0x2000)), (-1, 4, flag)
    for flag in (0, 0x80000, 0x40, direct, direct | 0x80000):
        yield "openat", _fate(not flag & direct), (-1, -1, flag)
        if number_of("open", machine) is not None:
            yield "open", _fate(not flag & direct), (-1, flag)
    for flag in (0, 0x80, 0x800, 0x4000, 0x80000, 0x80080, 0x80 + 2**32):
        yield "pipe2", _fate(not flag & 0x80), (-1, flag)
    for bit in range(32):
        for high in HIGH:
            yield "inotify_add_watch", _fate(not 1 << bit & 0x31), (-1, -1, (1 << bit) + high)
    for bit in range(9):
        for name in ("preadv2", "pwritev2"):
            yield name, _fate(bit < 5), (-1, -1, -1, -1, -1, 1 << bit)


def _memory() -> Around:
    for advice in range(120):
        yield "madvise", _fate(advice in MADVISE.values()), (-1, -1, advice)
    for advice in range(9):
        fate = NO_EFFECT if advice == 4 else _fate(advice in FADVISE.values())
        yield "fadvise64", fate, (-1, 0, 0, advice)
    for bit in range(32):
        yield "mmap", _fate(1 << bit != MAP_HUGETLB), (0, 0, 0, 1 << bit, -1, 0)


def _processes() -> Around:
    for which in range(4):
        for process in PROCESSES:
            yield "setpriority", _fate(which == 0 and process & 0xFFFFFFFF != 1), (which, process, 19)
            yield "getpriority", _fate(which in (0, 1)), (which + HIGH[process % 2], process)
    for process in PROCESSES:
        yield "sched_setaffinity", _fate(process & 0xFFFFFFFF != 1), (process, -1, -1)
