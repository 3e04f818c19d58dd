"""Attempts of processes to lock files of some devices, also refused attempts, as the kernel's trace points report them.

The kernel's list of locks has no refused attempt, and no lock that was released before the list was read. The trace
points ``filelock:flock_lock_inode`` and ``filelock:fcntl_setlk`` fire for each. The worker opens them with
``perf_event_open``, one event for each processor, with a filter that the kernel evaluates: only attempts on the given
devices wake the worker. The events end with the worker's process, also if it is killed, so they leave nothing on the
host. They need CAP_PERFMON (or root) and ``tracefs``, which gives the trace points' numbers; if the host has not
mounted ``tracefs``, this module makes a mount without a path. Without these rights ``LockAttempts`` finds nothing.

Formats: ``perf_event_open(2)``, and ``include/uapi/linux/perf_event.h``.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import re
import select
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432  # on every architecture
FSOPEN_CLOEXEC, FSCONFIG_CMD_CREATE, FSMOUNT_CLOEXEC = 1, 6, 1
TRACE_POINTS = ("flock_lock_inode", "fcntl_setlk")
ID = re.compile(r"^ID: (\d+)$", re.MULTILINE)
TYPE = re.compile(r"\b((?:fl_)?type);")  # its name depends on the kernel's version
F_UNLCK = 2
TRACEPOINT, SAMPLE_PERIOD, SAMPLE_TID, DISABLED, WAKE_AT_EACH, FIRST_SIZE = 2, 1, 1 << 1, 1, 1, 64
ATTRIBUTES = struct.Struct("=IIQQQQQIIQ")
ENABLE, SET_OUTPUT, SET_FILTER = 0x2400, 0x2405, 0x40082406
ANY_PROCESS, NO_GROUP, CLOEXEC = -1, -1, 8
HEAD_AT, TAIL_AT = 1024, 1032  # in the first page of a buffer, which its samples follow
HEADER, SAMPLE = struct.Struct("=IHH"), struct.Struct("=II")  # type, mode, size; pid, thread
RECORD_SAMPLE = 9
BUFFER_BYTES = mmap.PAGESIZE


class LockAttempts:
    """Attempts on files of ``devices``, each a pair of major and minor number. Used by one thread at a time."""

    def __init__(self, devices: Collection[tuple[int, int]]) -> None:
        self._files: list[int] = []
        self._buffers: list[mmap.mmap] = []
        self._poll = select.poll()
        try:
            trace_points = [_numbered(described, devices) for described in _formats()]
            for processor in range(os.sysconf("SC_NPROCESSORS_CONF")):
                self._open(processor, trace_points)
        except (OSError, KeyError, TypeError):  # not permitted, not known on this machine, another kernel's format
            self.close()

    @property
    def available(self) -> bool:
        """Whether the kernel reports attempts to this process."""
        return bool(self._buffers)

    def wait(self, seconds: float) -> set[int]:
        """The threads with attempts since the last call. Waits up to that time for an attempt."""
        if not any(buffer[HEAD_AT:TAIL_AT] != buffer[TAIL_AT : TAIL_AT + 8] for buffer in self._buffers):
            self._poll.poll(seconds * 1000)
        return {thread for buffer in self._buffers for thread in _samples(buffer)}

    def close(self) -> None:
        """End the reports. Idempotent."""
        for buffer in self._buffers:
            buffer.close()
        for file in self._files:
            os.close(file)
        self._files, self._buffers, self._poll = [], [], select.poll()

    def _open(self, processor: int, trace_points: Collection[tuple[int, str]]) -> None:
        first: int | None = None
        for number, filter_ in trace_points:
            fields = (TRACEPOINT, FIRST_SIZE, number, SAMPLE_PERIOD, SAMPLE_TID, 0, DISABLED, WAKE_AT_EACH, 0, 0)
            attributes = ctypes.create_string_buffer(ATTRIBUTES.pack(*fields))
            call = PERF_EVENT_OPEN[platform.machine()]
            try:
                file = _called(call, attributes, ANY_PROCESS, processor, NO_GROUP, CLOEXEC)
            except OSError:
                if processor:  # the processor is absent or offline; the first is always there
                    return
                raise
            self._files.append(file)
            fcntl.ioctl(file, SET_FILTER, filter_.encode() + b"\0")
            if first is None:
                first = file
                self._buffers.append(mmap.mmap(file, mmap.PAGESIZE + BUFFER_BYTES))
                self._poll.register(file, select.POLLIN)
            else:
                fcntl.ioctl(file, SET_OUTPUT, first)
            fcntl.ioctl(file, ENABLE, 0)


def _formats() -> list[str]:
    """The kernel's description of each trace point. Raises ``OSError``."""
    with suppress(OSError):
        return [Path(f"/sys/kernel/tracing/{_format_of(name)}").read_text(encoding="ascii") for name in TRACE_POINTS]
    context = _called(FSOPEN, b"tracefs", FSOPEN_CLOEXEC)
    try:
        _called(FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        mounted = _called(FSMOUNT, context, FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)
    try:
        return [
            Path(f"/proc/self/fd/{mounted}/{_format_of(name)}").read_text(encoding="ascii") for name in TRACE_POINTS
        ]
    finally:
        os.close(mounted)


def _format_of(trace_point: str) -> str:
    return f"events/filelock/{trace_point}/format"


def _numbered(described: str, devices: Collection[tuple[int, int]]) -> tuple[int, str]:
    """A trace point's number, and the filter for attempts to set a lock on these devices."""
    number, type_ = ID.search(described), TYPE.search(described)
    if number is None or type_ is None:
        raise TypeError(described)
    on = " || ".join(f"s_dev == {major << 20 | minor}" for major, minor in sorted(devices))
    return int(number[1]), f"({on}) && {type_[1]} != {F_UNLCK}"


def _samples(buffer: mmap.mmap) -> Iterator[int]:
    """Take the threads out of a buffer, which the kernel fills."""
    head, tail = (int.from_bytes(buffer[at : at + 8], "little") for at in (HEAD_AT, TAIL_AT))
    data = buffer[mmap.PAGESIZE :] * 2  # a record may wrap around to the beginning
    while tail < head:
        at = tail % BUFFER_BYTES
        kind, _, size = HEADER.unpack_from(data, at)
        if kind == RECORD_SAMPLE:
            yield SAMPLE.unpack_from(data, at + HEADER.size)[1]
        tail += size
    buffer[TAIL_AT : TAIL_AT + 8] = head.to_bytes(8, "little")


def _called(number: int, *arguments: object) -> int:
    """A system call's result. Raises ``OSError``."""
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
