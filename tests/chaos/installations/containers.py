"""An installation's real containers on this host: names, first processes, runtimes' processes."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from tests.harness import UIDS


def named(state: Path) -> list[str]:
    """Containers that are directories, or an OCI runtime's."""
    patterns = "containers/*/*", "oci/bundles/*/*"
    return [Path(found).name for pattern in patterns for found in glob.glob(pattern, root_dir=state)]


def worker_of(container: str) -> int:
    """The pid of the worker that made it."""
    return int(container.split("-")[-3])


def leased(sandboxes: Path) -> Iterator[tuple[str, int]]:
    """The directories by which uids are leased, each with the pid of its worker; see ``worker/host/hostdirs.py``."""
    for path in sandboxes.iterdir() if sandboxes.exists() else ():
        with suppress(FileNotFoundError):  # it was removed meanwhile
            hidden = path.name.startswith(".")
            owner = path.name[1:].rpartition("-")[0] if hidden else (path / "owner").read_text(encoding="utf-8")
            yield path.name, int(owner.split("-")[-2])


def inside(first_uid: int) -> Iterator[psutil.Process]:
    """Processes in the containers whose uids begin at the given one."""
    for process in psutil.process_iter(["uids", "status"]):
        uids, ended = process.info["uids"], process.info["status"] == psutil.STATUS_ZOMBIE
        if uids and not ended and first_uid <= uids.real < first_uid + UIDS:
            yield process


def agents(first_uid: int) -> list[psutil.Process]:
    """Those of them that are the first of their container."""
    return [process for process in inside(first_uid) if _is_first(process.pid)]


def launching(workers: Iterable[int]) -> list[psutil.Process]:
    """The runtimes' processes that are children of workers with those pids: each has a container."""
    found = []
    for pid in workers:
        try:
            children = psutil.Process(pid).children()
            found += [child for child in children if "--bundle" in child.cmdline()]
        except psutil.NoSuchProcess:
            continue
    return found


def _is_first(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    (numbers,) = (line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    return len(numbers) > 1 and numbers[-1] == "1"
