"""Exit codes of processes with another parent, from the kernel.

A container engine reports an end only after its clean-up, some 30 ms later. Since Linux 6.15 an open pidfd keeps the
exit status of its reaped process (``PIDFD_GET_INFO`` with ``PIDFD_INFO_EXIT``, see ``linux/pidfd.h``). On older
kernels, and in a pid namespace other than the host's, the worker asks the engine.

An unreaped process shows its exit status in ``/proc`` (see proc_pid_stat(5)).
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
from pathlib import Path

INFO = struct.Struct("=QQ11Ii")  # struct pidfd_info, first version: mask, cgroupid, ids, exit_code
MASK_EXIT = 1 << 3
READ_WRITE = 3
GET_INFO = READ_WRITE << 30 | INFO.size << 16 | 0xFF << 8 | 11


def unreaped_code(pid: int, pidfd: int, timeout_seconds: float) -> int | None:
    """The exit code of an ended, unreaped process; 128 plus the signal's number after a signal, as in shells.

    ``None`` if the process still runs after that time, or was reaped. The caller needs the right to open
    ``/proc/<pid>/ns``: without that right the kernel shows a zero.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(timeout_seconds * 1000):
        return None
    try:
        status = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").split()[-1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    if poll.poll(0)[0][1] & select.POLLHUP:  # the process was reaped, and the pid may belong to another process
        return None
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


class ExitWatch:
    """The first process of one container, by its pidfd."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    @classmethod
    def open(cls, pid: int, container_id: str) -> ExitWatch | None:
        """Watch process ``pid`` of a container; ``None`` if the kernel cannot, or the process belongs to another
        container.
        """
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        watch = cls(pidfd)
        try:
            # The pid may have been reused before it was opened; its cgroup identifies the current owner.
            if container_id in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii") and watch.works():
                return watch
        except OSError:  # already ended
            pass
        watch.close()
        return None

    def works(self) -> bool:
        """Whether this kernel keeps exit statuses; the process must still run."""
        try:
            fcntl.ioctl(self._pidfd, GET_INFO, bytearray(INFO.pack(MASK_EXIT, 0, *[0] * 11, 0)))
        except OSError:
            return False
        return True

    def wait(self, timeout_seconds: float) -> int | None:
        """The exit code, once the process has exited by itself and was reaped.

        ``None`` if it still runs after that time, was killed by a signal, or this kernel keeps no exit status.
        """
        poll = select.poll()
        poll.register(self._pidfd, select.POLLHUP)
        if not poll.poll(timeout_seconds * 1000):
            return None
        info = bytearray(INFO.pack(MASK_EXIT, 0, *[0] * 11, 0))
        try:
            fcntl.ioctl(self._pidfd, GET_INFO, info)
        except OSError:
            return None
        mask, *_, status = INFO.unpack(info)
        return os.WEXITSTATUS(status) if mask & MASK_EXIT and os.WIFEXITED(status) else None

    def close(self) -> None:
        """Close the pidfd. Idempotent."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
