"""Counters of a container's network: attempts to reach an address without a route, and sockets in use.

A sandbox with a loopback has TCP and UDP sockets that reach only that loopback. A datagram or connection to another
address finds no route (ENETUNREACH), which no filter can report, since the address lies in memory. The kernel counts
such attempts for each network namespace (``OutNoRoutes`` in ``/proc/<pid>/net/snmp`` and ``snmp6``). An open file keeps
its namespace, so it can be read after the last process has ended. Sockets (``sockstat``, ``sockstat6``) are counted
because unaccepted connections need no descriptor and are charged to no cgroup.
"""

from __future__ import annotations

import os
from contextlib import suppress
from mmap import PAGESIZE

FILES = ("net/snmp", "net/snmp6")
SOCKET_FILES = ("net/sockstat", "net/sockstat6")


class Unrouted:
    """The counters of one network namespace."""

    def __init__(self, files: list[int], socket_files: list[int]) -> None:
        self._files, self._socket_files = files, socket_files

    @classmethod
    def open(cls, pid: int, cgroup: str) -> Unrouted | None:
        """The counters of process ``pid``; ``None`` if it is invisible, or its cgroup's path lacks the given part."""
        files: dict[str, int] = {}
        try:
            process = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            with os.fdopen(os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), encoding="ascii") as file:
                if cgroup not in file.read():
                    return None
            for name in (*FILES, *SOCKET_FILES):
                with suppress(FileNotFoundError):  # a kernel without IPv6
                    files[name] = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
        except OSError:  # the process has ended
            return None
        finally:
            os.close(process)
        if not files:
            return None
        counts, sockets = ([files[name] for name in names if name in files] for names in (FILES, SOCKET_FILES))
        return cls(counts, sockets)

    def count(self) -> int:
        """The number so far, for IPv4 and IPv6 together."""
        return sum(no_routes(_whole(file)) for file in self._files)

    def sockets(self) -> int:
        """The current number of TCP and UDP sockets, including sockets without a descriptor."""
        return sum(in_use(_whole(file)) for file in self._socket_files)

    def close(self) -> None:
        """Close the files. Idempotent."""
        for files in (self._files, self._socket_files):
            while files:
                os.close(files.pop())


def no_routes(table: str) -> int:
    """``OutNoRoutes`` of IP in such a file's text: one row of names and one of numbers, or a name in each row."""
    rows = [line.split() for line in table.splitlines()]
    names, numbers = ([row for row in rows if row and row[0] == "Ip:"] + [[], []])[:2]
    counts = dict(zip(names, numbers, strict=False)) | {row[0]: row[1] for row in rows if len(row) == 2}
    return sum(int(counts.get(name, 0)) for name in ("OutNoRoutes", "Ip6OutNoRoutes"))


def in_use(table: str) -> int:
    """The sum of the sockets of each protocol, from rows such as ``TCP: inuse 4 orphan 0``; ``sockets:`` is skipped."""
    rows = (line.split() for line in table.splitlines())
    return sum(int(row[2]) for row in rows if row[1:2] == ["inuse"])


def _whole(file: int) -> str:
    text = b""
    while data := os.pread(file, 4 * PAGESIZE, len(text)):
        text += data
    return text.decode("ascii")
