"""The kernel's counters and caps of a container: on cgroup v1 (hybrid too) and v2.

Paths follow the engine's two conventions, ``docker/<id>`` with the cgroupfs driver and
``system.slice/docker-<id>.scope`` with the systemd driver; containers of driver ``oci`` are at ``mayfly/<name>``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from mmap import PAGESIZE
from pathlib import Path
from typing import NamedTuple

import structlog

from orchestrator.errors import EnvironmentUnavailable
from orchestrator.models import MIN_CPU_CORES
from worker.counters import Counters

NANOSECONDS = 1e9
MICROSECONDS = 1e6
PERIOD_MICROSECONDS = 100_000
SHARES, WEIGHT = 1024, 100  # the kernel's default CPU weight, on version 1 and 2
OURS = "mayfly"
log = structlog.get_logger()


class Caps(NamedTuple):
    """A container's caps; ``cpu_microseconds`` of each period. ``memory_bytes`` bounds memory and swap together."""

    memory_bytes: int
    cpu_microseconds: int
    pids: int

    @classmethod
    def of(cls, memory_bytes: int, cpu_cores: float, pids: int) -> Caps:
        """Convert from the units of limits."""
        return cls(memory_bytes, round(max(MIN_CPU_CORES, cpu_cores) * PERIOD_MICROSECONDS), pids)


class Counted:
    """The cgroup of one container. It is looked up once, and read several times in an execution."""

    def __init__(self, root: Path, container_id: str) -> None:
        self._root, self._id = root, container_id
        self._places: dict[str, Path | None] = {}

    def counters(self) -> Counters:
        """The counters so far; all ``None`` if the cgroup is gone or not visible."""
        if not any(self._places.values()):
            unified = find(self._root, self._id) if is_unified(self._root) else None
            v1 = ("cpuacct", "cpu", "memory", "pids")
            self._places = {"": unified} if unified else {name: find(self._root / name, self._id) for name in v1}
        unified = self._places.get("")
        return _read_v2(unified) if unified else _read_v1(self._places)


def version(root: Path) -> str:
    """``v2``, ``v1`` or ``hybrid``: how this host mounts its cgroups."""
    if is_unified(root):
        return "v2"
    return "hybrid" if (root / "unified").exists() else "v1"


def set_caps(root: Path, name: str, caps: Caps) -> None:
    """Change the caps of one of this worker's waiting containers. Raises ``OSError``."""
    files = list(_cap_files(root, f"{OURS}/{name}", caps).items())
    memory, with_swap = files[0][0], files[1][0]
    if not is_unified(root) and with_swap.exists() and (_value(memory, int) or 0) < caps.memory_bytes:
        files[0], files[1] = files[1], files[0]  # the kernel refuses a first value above the second
    for path, value in files:
        if path.exists():
            path.write_text(value, encoding="ascii")


def restore_cpu_weight(root: Path, name: str) -> None:
    """Restore the usual CPU weight of one of this worker's containers. Raises ``OSError``."""
    if is_unified(root):
        (root / OURS / name / "cpu.weight").write_text(str(WEIGHT), encoding="ascii")
    else:
        (root / "cpu" / OURS / name / "cpu.shares").write_text(str(SHARES), encoding="ascii")


def set_cpu(root: Path, container_id: str, caps: Caps) -> None:
    """Change only the CPU quota, of any container. Raises ``OSError``."""
    if (where := _where(root, container_id)) is None:
        raise FileNotFoundError(container_id)
    for path, value in _cap_files(root, where, caps).items():
        if path.name.startswith("cpu."):
            path.write_text(value, encoding="ascii")


def weaker_caps(root: Path, name: str, caps: Caps) -> list[str]:
    """The cgroup files of one of this worker's containers whose values differ from these caps."""
    return _violations(root, f"{OURS}/{name}", caps)


def weaker_caps_if_visible(root: Path, container_id: str, caps: Caps) -> list[str]:
    """Like :func:`weaker_caps` for any container; empty if its cgroup is not visible."""
    where = _where(root, container_id)
    return [] if where is None else _violations(root, where, caps)


def bound_buffers(root: Path, container_id: str, buffer_bytes: int) -> None:
    """Bound the kernel memory of a container's TCP and UDP socket buffers.

    Version 1 charges these buffers to no container until a bound is set, at the expense of the host's own connections;
    version 2 charges them to the container's memory. No runtime sets this. Raises :class:`EnvironmentUnavailable` where
    it cannot be set.
    """
    if is_unified(root):
        return
    place = find(root / "memory", container_id)
    try:
        if place is not None:
            (place / "memory.kmem.tcp.limit_in_bytes").write_text(str(buffer_bytes), encoding="ascii")
            return
    except OSError as error:
        log.warning("cgroup.not_bounded", container=container_id, detail=str(error))
    raise EnvironmentUnavailable("This worker cannot bound the buffers of a loopback's sockets: it needs its cgroups.")


def _violations(root: Path, where: str, caps: Caps) -> list[str]:
    return [path.name for path, value in _cap_files(root, where, caps).items() if not _holds(path, value)]


def _where(root: Path, container_id: str) -> str | None:
    """A container's path below the hierarchies."""
    base = root if is_unified(root) else root / "cpu"
    place = find(base, container_id)
    return None if place is None else str(place.relative_to(base))


def _cap_files(root: Path, where: str, caps: Caps) -> dict[Path, str]:
    """The values by file name; without the swap file if the kernel does not account for swap."""
    if is_unified(root):
        unified = root / where
        return {
            unified / "memory.max": str(caps.memory_bytes),
            unified / "memory.swap.max": "0",
            unified / "cpu.max": f"{caps.cpu_microseconds} {PERIOD_MICROSECONDS}",
            unified / "pids.max": str(caps.pids),
        }
    memory, cpu, pids = (root / controller / where for controller in ("memory", "cpu", "pids"))
    return {
        memory / "memory.limit_in_bytes": str(caps.memory_bytes),
        memory / "memory.memsw.limit_in_bytes": str(caps.memory_bytes),
        cpu / "cpu.cfs_quota_us": str(caps.cpu_microseconds),
        pids / "pids.max": str(caps.pids),
    }


def _holds(path: Path, value: str) -> bool:
    found = read(path).strip()
    if not found and "sw" in path.name:  # a kernel that does not account for swap: reported by posture
        return path.parent.exists() and not path.exists()
    if path.name in ("memory.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
        return found.isdigit() and int(found) == int(value) // PAGESIZE * PAGESIZE
    return found == value


def is_unified(root: Path) -> bool:
    """Whether only cgroup v2 is mounted there."""
    return (root / "cgroup.controllers").exists()


def find(base: Path, container_id: str) -> Path | None:
    """A container's directory below a hierarchy; ``None`` if it does not exist."""
    for relative in (f"docker/{container_id}", f"system.slice/docker-{container_id}.scope", f"{OURS}/{container_id}"):
        if os.path.isdir(place := f"{base}/{relative}"):
            return Path(place)
    return None


def _read_v2(path: Path) -> Counters:
    cpu, memory = _table(f"{path}/cpu.stat"), _table(f"{path}/memory.events")
    return Counters(
        cpu_seconds=_scaled(cpu, "usage_usec", MICROSECONDS),
        throttled_seconds=_scaled(cpu, "throttled_usec", MICROSECONDS),
        peak_memory_bytes=_value(f"{path}/memory.peak", int),
        peak_processes=_value(f"{path}/pids.peak", int),
        oom_events=memory.get("oom_kill", 0),
        pids_events=_table(f"{path}/pids.events").get("max", 0),
    )


def _read_v1(paths: dict[str, Path | None]) -> Counters:
    missing = Path("/nonexistent")
    cpuacct, cpu, memory, pids = (paths[name] or missing for name in ("cpuacct", "cpu", "memory", "pids"))
    used = _value(f"{cpuacct}/cpuacct.usage", int)
    return Counters(
        cpu_seconds=None if used is None else used / NANOSECONDS,
        throttled_seconds=_scaled(_table(f"{cpu}/cpu.stat"), "throttled_time", NANOSECONDS),
        peak_memory_bytes=_value(f"{memory}/memory.max_usage_in_bytes", int),
        peak_processes=_value(f"{pids}/pids.peak", int),
        oom_events=_table(f"{memory}/memory.oom_control").get("oom_kill", 0),
        pids_events=_table(f"{pids}/pids.events").get("max", 0),
    )


def read(path: Path | str) -> str:
    """The content of a cgroup file, at most a page; empty if the file does not exist."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, PAGESIZE).decode("ascii")  # the kernel returns the whole file in one read
        finally:
            os.close(descriptor)
    except OSError:  # removed with its container, or absent in this kernel
        return ""


def _value(path: Path | str, parse: Callable[[str], int]) -> int | None:
    text = read(path).strip()
    return parse(text) if text else None


def _table(path: Path | str) -> dict[str, int]:
    rows = (line.split() for line in read(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}


def _scaled(table: dict[str, int], key: str, scale: float) -> float | None:
    return table[key] / scale if key in table else None
