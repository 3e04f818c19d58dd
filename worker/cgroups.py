"""Reading what the kernel counted for a container, on cgroup v1 (hybrid too) and v2.

Paths follow the engine's two conventions: ``docker/<id>`` with the cgroupfs driver, ``system.slice/docker-<id>.scope``
with systemd's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker.drivers.base import Counters

NANOSECONDS = 1e9
MICROSECONDS = 1e6


def counters_of(root: Path, container_id: str) -> Counters:
    """Counters of a live container; all unknown when its cgroup is gone or not visible here."""
    unified = _find(root, container_id)
    if unified is not None and (root / "cgroup.controllers").exists():
        return _read_v2(unified)
    return _read_v1({name: _find(root / name, container_id) for name in ("cpuacct", "cpu", "memory", "pids")})


def version(root: Path) -> str:
    """``v2``, ``v1`` or ``hybrid``: how this host mounts its cgroups."""
    if (root / "cgroup.controllers").exists():
        return "v2"
    return "hybrid" if (root / "unified").exists() else "v1"


def _find(base: Path, container_id: str) -> Path | None:
    for relative in (f"docker/{container_id}", f"system.slice/docker-{container_id}.scope"):
        if (base / relative).is_dir():
            return base / relative
    return None


def _read_v2(path: Path) -> Counters:
    cpu, memory = _table(path / "cpu.stat"), _table(path / "memory.events")
    return Counters(
        cpu_seconds=_scaled(cpu, "usage_usec", MICROSECONDS),
        throttled_seconds=_scaled(cpu, "throttled_usec", MICROSECONDS),
        peak_memory_bytes=_value(path / "memory.peak", int),
        peak_processes=_value(path / "pids.peak", int),
        oom_events=memory.get("oom_kill", 0),
        pids_events=_table(path / "pids.events").get("max", 0),
    )


def _read_v1(paths: dict[str, Path | None]) -> Counters:
    missing = Path("/nonexistent")
    cpuacct, cpu, memory, pids = (paths[name] or missing for name in ("cpuacct", "cpu", "memory", "pids"))
    used = _value(cpuacct / "cpuacct.usage", int)
    return Counters(
        cpu_seconds=None if used is None else used / NANOSECONDS,
        throttled_seconds=_scaled(_table(cpu / "cpu.stat"), "throttled_time", NANOSECONDS),
        peak_memory_bytes=_value(memory / "memory.max_usage_in_bytes", int),
        peak_processes=_value(pids / "pids.peak", int),
        oom_events=_table(memory / "memory.oom_control").get("oom_kill", 0),
        pids_events=_table(pids / "pids.events").get("max", 0),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:  # gone with its container, or a file this kernel does not have
        return ""


def _value(path: Path, parse: Callable[[str], int]) -> int | None:
    text = _read(path).strip()
    return parse(text) if text else None


def _table(path: Path) -> dict[str, int]:
    rows = (line.split() for line in _read(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2}


def _scaled(table: dict[str, int], key: str, scale: float) -> float | None:
    return table[key] / scale if key in table else None
