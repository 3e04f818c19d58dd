"""The kernel's audit records of denied system calls, read without an audit daemon.

Theory of operation
===================
Whenever a seccomp filter kills a process, or denies a call and was installed with the log flag, the kernel writes an
audit record (type 1326). The record has the uid but not the container; since every container has a uid of its own, the
uid identifies the container. There are two sources:

* the netlink multicast group for readers of the audit log. It is complete, also while an audit daemon runs. It needs
  CAP_AUDIT_READ and the host's network namespace.
* ``/dev/kmsg``, which gets the records while there is no audit daemon: ten lines in five seconds for the whole host.

Records reach the multicast group within a millisecond of the call. One thread reads; others call
:meth:`KernelWatch.drain` when they need every record that has arrived so far. Only records of the kernel count: netlink
names the sender of a message, and a line that a process wrote to ``/dev/kmsg`` has another facility than the kernel's.
``/dev/kmsg`` also reports processes killed for lack of memory (:func:`has_oom_record`).
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from orchestrator import metrics

NETLINK_AUDIT = 9
AUDIT_READERS = 1  # the multicast group AUDIT_NLGRP_READLOG
AUDIT_SECCOMP = 1326
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 32 * 2**20
RECORD_BYTES = 16 * 1024
BATCH = 4096
KERNEL_FACILITY = 0
KERNEL_LOG = Path("/dev/kmsg")
NETLINK_HEADER = struct.Struct("=IHHII")
X32 = 0x40000000  # set in the numbers of x32 calls, whose audit records name x86_64
ARCHITECTURES = {0xC000003E: "x86_64", 0x40000003: "i386", 0xC00000B7: "aarch64", 0x40000028: "arm"}
# The kernel encodes an untrusted text with a space, a quote or a control character in hex.
TEXT = rb'("[^"]*"|[0-9A-F]+|\(null\))'
RECORD = re.compile(
    rb"auid=\d+ uid=(\d{1,10}) gid=\d+ ses=\d+ (?:subj=\S+ )?pid=(\d{1,10}) comm=" + TEXT + rb" exe=" + TEXT + rb" "
    rb"sig=(\d+) arch=([0-9a-f]{1,8}) syscall=(-?\d{1,10}) compat=\d+ ip=0x[0-9a-f]+ code=0x[0-9a-f]+"
)
KMSG = re.compile(rb"(\d{1,10}),\d+,\d+,[^;]*;audit: type=1326 audit\(")


class Denial(NamedTuple):
    """One denied system call; ``killed`` if the process was killed for it, otherwise the call was answered EPERM."""

    uid: int
    pid: int
    process: str
    architecture: str
    number: int
    killed: bool


def parse(record: bytes) -> Denial | None:
    """The denial in an audit record's text; ``None`` for other records."""
    return _parse(record.partition(b"): ")[2])  # the first part has the time and the record's number


@lru_cache(maxsize=256)  # a program that is denied in a loop causes many equal records
def _parse(record: bytes) -> Denial | None:
    found = RECORD.search(record)
    if found is None:
        return None
    uid, pid, comm, _, signal, arch, number = found.groups()
    architecture, call = ARCHITECTURES.get(int(arch, 16), arch.decode()), int(number)
    if architecture == "x86_64" and call >= X32:
        architecture, call = "x32", call - X32
    return Denial(int(uid), int(pid), _text(comm), architecture, call, signal != b"0")


def _text(quoted: bytes) -> str:
    if quoted.startswith(b'"'):
        return quoted[1:-1].decode(errors="replace")
    if quoted == b"(null)" or len(quoted) % 2:
        return ""
    return bytes.fromhex(quoted.decode()).decode(errors="replace")


class _Netlink:
    """The kernel's audit records by multicast."""

    name = "audit"

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(RECORD_BYTES))
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_AUDIT)
        try:
            self.socket.bind((0, AUDIT_READERS))
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        except OSError:
            self.socket.close()
            raise

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def next(self) -> bytes | None:
        """The next record's text, empty for another kind of message. Raises ``BlockingIOError`` without a pending
        message.
        """
        length, sender = self.socket.recvfrom_into(self._buffer)
        kind = NETLINK_HEADER.unpack_from(self._buffer)[1]
        return bytes(self._buffer[:length]) if kind == AUDIT_SECCOMP and sender[0] == 0 else b""


class _Kmsg:
    """The kernel log."""

    name = "kernel log"

    def __init__(self, path: Path, wanted: re.Pattern[bytes] = KMSG, whence: int = os.SEEK_END) -> None:
        self._wanted = wanted
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._descriptor, 0, whence)

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)

    def next(self) -> bytes | None:
        """As :meth:`_Netlink.next`."""
        line = os.read(self._descriptor, RECORD_BYTES)
        found = self._wanted.match(line)
        return line if found and int(found[1]) >> 3 == KERNEL_FACILITY else b""


def has_oom_record(container_id: str) -> bool:
    """Whether the kernel's log has an out-of-memory kill in the cgroup of a container.

    A container that dies as a whole, as in gVisor, loses its counters, and an engine may miss the kill.
    """
    identity = rb"[^,]*" + re.escape(container_id.encode()) + rb"[^,]*,"
    wanted = re.compile(rb"(\d{1,10}),[^;]*;oom-kill:constraint=CONSTRAINT_MEMCG,.*,oom_memcg=" + identity)
    try:
        log = _Kmsg(KERNEL_LOG, wanted, os.SEEK_SET)
    except OSError:  # this process may not read the log
        return False
    try:
        while True:
            try:
                if log.next():
                    return True
            except BrokenPipeError:  # a line was overwritten; the next line is available
                continue
    except BlockingIOError:  # the end of the log
        return False
    finally:
        log.close()


def _sources(kmsg: Path) -> Iterator[_Netlink | _Kmsg]:
    for make in (_Netlink, lambda: _Kmsg(kmsg)):
        try:
            yield make()
        except OSError:
            continue


class KernelWatch:
    """Reads denials and passes each to ``on_denial``. ``source`` is ``None`` if no source can be read."""

    def __init__(self, on_denial: Callable[[Denial], None], kmsg: Path = KERNEL_LOG) -> None:
        self._on_denial = on_denial
        self._source = next(_sources(kmsg), None)
        self._lock = threading.Lock()
        self._stop, self._stopped = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self.lost = 0

    @property
    def source(self) -> str | None:
        """The source of denials: ``audit``, ``kernel log``, or none."""
        return None if self._source is None else self._source.name

    def start(self) -> None:
        """Start the reading thread."""
        if self._source is not None:
            self._thread.start()

    def close(self) -> None:
        """End the thread and close the source."""
        os.close(self._stopped)
        if self._thread.ident is not None:
            self._thread.join()
        if self._source is not None:
            self._source.close()
        os.close(self._stop)

    def drain(self) -> bool:
        """Process the pending records; ``False`` if more may be pending. ``lost`` grows when the kernel dropped
        records.
        """
        if self._source is None:
            return True
        with self._lock:
            for _ in range(BATCH):
                try:
                    record = self._source.next()
                except BlockingIOError:
                    return True
                except OSError as error:
                    if error.errno not in (errno.ENOBUFS, errno.EPIPE):  # records exceeded the kernel's buffer
                        raise
                    self.lost += 1
                    metrics.denials_lost.inc()
                    continue
                if record and (denial := parse(record)):
                    self._on_denial(denial)
        return False

    def _run(self) -> None:
        if self._source is None:
            return
        poller = select.poll()
        poller.register(self._source.fileno(), select.POLLIN)
        poller.register(self._stop, select.POLLIN | select.POLLHUP)
        while self._stop not in dict(poller.poll()):
            self.drain()
