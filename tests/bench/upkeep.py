"""Measures a worker's memory and leaks after many executions, and the memory of a waiting container."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.systems.mayfly import EXECUTIONS, WAIT_SECONDS, Mayfly
from tests.bench.systems.programs import PRINT
from tests.bench.wire import Wire

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
CLIENTS = 4
SETTLING_RUNS = 100  # before the first look: imports, thread pools and connections are made by then
LOOKS, BETWEEN_LOOKS_SECONDS = 5, 0.3
KILOBYTE, MEGABYTE = 1024, 1e6


@dataclass(frozen=True)
class Holdings:
    """The resources of an idle worker and its host."""

    executions: int
    resident_bytes: int
    descriptors: int
    threads: int
    mounts: int
    cgroups: int  # empty ones, on the whole host
    uids: int

    def left_over(self, later: Holdings) -> dict[str, int]:
        """The resources that are in use later and were not before. Memory is judged apart: it may grow a little before
        it is flat.
        """
        before, after = asdict(self), asdict(later)
        counted = ("descriptors", "threads", "mounts", "cgroups", "uids")
        return {name: after[name] - before[name] for name in counted}


def soak(mayfly: Mayfly, executions: int, report_progress: Callable[[str], None]) -> dict[str, Any]:
    """Many executions; the resources before, half-way and after. Resources left by the second half are a leak."""
    looks, done = [], 0
    for count in (SETTLING_RUNS, executions // 2, executions - executions // 2):
        report_progress(f"soak: {count} executions, {mayfly.name}")
        _run(mayfly, count)
        done += count
        looks.append(_look(mayfly, done))
    _, middle, last = looks
    return {
        "worker": mayfly.name,
        "executions": executions,
        "holdings": [asdict(look) for look in looks],
        "left_over": middle.left_over(last),
        "figures": {
            "worker_memory": last.resident_bytes / MEGABYTE,
            "worker_growth": last.resident_bytes / middle.resident_bytes,
            "worker_leaks": sum(max(0, more) for more in middle.left_over(last).values()),
        },
    }


def idle_memory(mayfly: Mayfly, environment: str = "python") -> dict[str, float]:
    """Megabytes of a waiting container that it shares with no other, and of the process that looks after it."""
    mayfly.settle(environment)
    waiting = [pid for pid in _sandboxed(mayfly) if _environment(pid) == environment]
    containers = len({_uid(PROC / str(pid)) for pid in waiting})
    worker = mayfly.stack.workers[0].pid
    helpers = {parent for pid in waiting if (parent := _status(pid, "PPid")) not in (1, worker, *waiting)}
    return {
        # Agent and fork share what neither has written to, which counts once.
        "idle_memory": sum(_bytes(pid, "Pss_Anon", "Private_Clean") for pid in waiting) / containers / MEGABYTE,
        "idle_helper_memory": statistics.mean([_private(pid) for pid in helpers] or [0.0]) / MEGABYTE,
    }


def _run(mayfly: Mayfly, count: int) -> None:
    with Wire(mayfly.stack.port, mayfly.stack.key) as wire:
        request = wire.prepared("POST", EXECUTIONS, mayfly.body(PRINT), WAIT_SECONDS)

    def client(share: int) -> None:
        with mayfly.wire() as wire:
            for _ in range(share):
                assert wire.exchange(request)["state"] == "succeeded"

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(client, [count // CLIENTS + (n < count % CLIENTS) for n in range(CLIENTS)]))


def _look(mayfly: Mayfly, executions: int) -> Holdings:
    """The resources in use all the time: the least of a few looks, since a thread or connection may be about to end."""
    for environment in mayfly.warm_environments:
        mayfly.settle(environment)
    looks = []
    for _ in range(LOOKS):
        time.sleep(BETWEEN_LOOKS_SECONDS)
        looks.append(_counts(mayfly))
    return Holdings(executions=executions, **{name: min(look[name] for look in looks) for name in looks[0]})


def _counts(mayfly: Mayfly) -> dict[str, int]:
    pid = mayfly.stack.workers[0].pid
    return {
        "resident_bytes": _status(pid, "VmRSS") * KILOBYTE,
        "descriptors": len(list((PROC / str(pid) / "fd").iterdir())),
        "threads": _status(pid, "Threads"),
        "mounts": len((PROC / str(pid) / "mountinfo").read_text().splitlines()),
        "cgroups": _abandoned_cgroups(),
        "uids": len(list((mayfly.stack.directory / "state" / "sandboxes").iterdir())),
    }


def _abandoned_cgroups() -> int:
    """Cgroups that have neither processes nor cgroups in them: what waits or runs has some."""
    return sum(not within and _empty(Path(path)) for path, within, _ in os.walk(CGROUPS))


def _empty(cgroup: Path) -> bool:
    try:
        return not (cgroup / "cgroup.procs").read_text()
    except OSError:  # gone meanwhile
        return False


def _sandboxed(mayfly: Mayfly) -> list[int]:
    """Processes under the uids that this installation gives to its containers."""
    first = int(mayfly.stack.env["MAYFLY_UID_FIRST"])
    uids = range(first, first + 50_000)
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit() and _owner(path) in uids]


def _owner(process: Path) -> int:
    try:
        return process.stat().st_uid or _uid(process)
    except (FileNotFoundError, ProcessLookupError):  # gone meanwhile
        return 0


def _uid(process: Path) -> int:
    """The real uid, also of a process that is not dumpable, whose files in /proc belong to root."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1])
    return 0


def _environment(pid: int) -> str:
    baked = PROC / str(pid) / "root" / "usr" / "lib" / "mayfly" / "environment.json"
    return str(json.loads(baked.read_text())["name"])


def _status(pid: int, field: str) -> int:
    """A number of ``/proc/PID/status``; sizes are in kilobytes there."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise KeyError(field)


def _private(pid: int) -> float:
    """Bytes that would be free again if this process ended."""
    return _bytes(pid, "Private_Clean", "Private_Dirty")


def _bytes(pid: int, *fields: str) -> float:
    """The sum of rows of ``/proc/PID/smaps_rollup``."""
    rows = (line.split() for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:])
    return float(sum(int(row[1]) for row in rows if row[0].rstrip(":") in fields)) * KILOBYTE
