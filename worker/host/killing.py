"""Ends every process of a container at once, through its cgroup.

An engine's kill signals the container's first process, and the kernel kills the others when the first has died. Dying
takes CPU time, from the container's own quota and in competition with its other processes: with the lowest priority
among 250 busy processes, the first process needs minutes. So the worker lifts the quota and kills all processes:

* on cgroup v2 by one write to ``cgroup.kill`` (Linux 5.14);
* on cgroup v1 by the freezer, which keeps processes from forking while the worker reads their list. SIGKILL stays
  pending in a frozen process of v1, which dies when the freezer thaws it: freeze, kill, thaw, in this order.

A worker that may not write the container's cgroup (without root, or in a container of its own) can use neither way, and
:func:`kill_all` returns ``False``: then only the engine's kill remains, which a program can delay.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from worker.host.cgroups import SHARES, WEIGHT, find, is_unified, read

KILL_SECONDS = 1.0
FREEZE_SECONDS = 0.1  # an unthrottled process reaches the freezer within a tick of the scheduler
PAUSE_SECONDS = 0.001  # between looks at a cgroup of v1, which does not announce that it is empty
PIDFDS = 64  # the number open at a time
V1_CONTROLLERS = ("freezer", "pids", "memory", "cpu")  # in order of preference: each lists the same processes


def kill_all(
    root: Path, container: str, timeout_seconds: float = KILL_SECONDS, between: Callable[[], object] = lambda: None
) -> bool:
    """Send SIGKILL to every process of a container. Returns whether all have died within that time.

    ``between`` is called while processes die, to read the cgroup's counters as late as possible. Also ``False`` if the
    cgroup is gone, not visible or not writable.
    """
    place = _place(root, container)
    if place is None:
        return False
    deadline = time.monotonic() + timeout_seconds
    if read(place / "cgroup.procs"):
        lift_cpu(root, container)
    while read(place / "cgroup.procs"):
        if not _signal_all(place) or time.monotonic() > deadline:
            return False
        between()
        time.sleep(PAUSE_SECONDS)
    return True


def is_gone(root: Path, container: str) -> bool:
    """Whether a container has no cgroup that this worker sees."""
    return _place(root, container) is None


def lift_cpu(root: Path, container: str) -> None:
    """Lift a container's CPU quota; no effect without the right to write its cgroup."""
    base = root if is_unified(root) else root / "cpu"
    place = find(base, container)
    if place is None:
        return
    values = {"cpu.max": "max", "cpu.weight": str(WEIGHT), "cpu.cfs_quota_us": "-1", "cpu.shares": str(SHARES)}
    for name, value in values.items():
        if (place / name).exists():
            _write(place / name, value)


def directories(root: Path, container: str) -> list[Path]:
    """The cgroup directories of a container, one for each hierarchy, as far as this worker sees them."""
    if not root.is_dir():
        return []
    if is_unified(root):
        return [place] if (place := find(root, container)) else []
    return [place for each in root.iterdir() if (place := find(each, container)) and os.path.ismount(each)]


def removed(root: Path, container: str, timeout_seconds: float) -> bool:
    """Kill a container's processes. Returns whether its cgroups were removed within that time. Raises ``OSError``."""
    deadline = time.monotonic() + timeout_seconds
    lift_cpu(root, container)
    while left := directories(root, container):
        for place in left:
            _signal_all(place)
            try:
                place.rmdir()
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOENT):
                    raise
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def _place(root: Path, container: str) -> Path | None:
    if is_unified(root):
        return find(root, container)
    return next((place for name in V1_CONTROLLERS if (place := find(root / name, container))), None)


def _signal_all(place: Path) -> bool:
    """Kill every process of a cgroup; ``False`` if none of its processes can be signalled by this worker."""
    if _write(place / "cgroup.kill", "1"):
        return True
    state = place / "freezer.state"
    if not _write(state, "FROZEN"):
        return _send(place)
    try:
        deadline = time.monotonic() + FREEZE_SECONDS
        while read(state).strip() == "FREEZING" and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
        return _send(place)
    finally:
        _write(state, "THAWED")


def _send(place: Path) -> bool:
    pids = _pids(place)
    answered = not pids
    for start in range(0, len(pids), PIDFDS):
        opened: dict[int, int] = {}
        for pid in pids[start : start + PIDFDS]:
            with suppress(OSError):  # gone, or 0
                opened[pid] = os.pidfd_open(pid)
        listed = set(_pids(place))  # a pid that is no longer listed may belong to another process
        for pid, pidfd in opened.items():
            try:
                if pid in listed:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                answered = True
            except ProcessLookupError:
                answered = True
            except PermissionError:
                continue
            finally:
                os.close(pidfd)
    return answered


def _pids(place: Path) -> list[int]:
    """The cgroup's processes as pids of this worker's namespace; the kernel lists invisible processes as 0."""
    try:
        text = (place / "cgroup.procs").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(pid) for pid in text.split()]


def _write(path: Path, value: str) -> bool:
    """Whether the kernel accepted the value."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, value.encode("ascii"))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
