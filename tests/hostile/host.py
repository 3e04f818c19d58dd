"""The state that hostile programs must leave unchanged: the host, and the installation on it.

``snapshot`` reads what can be compared before and after. Facts that other work on the same machine may change are
narrowed to the installation's own uids, or to what belongs to no container of the engine.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import docker

from tests.harness import UIDS, Stack, eventually

SYSCTLS = (
    "kernel/hostname", "kernel/domainname", "kernel/core_pattern", "kernel/modprobe", "kernel/randomize_va_space",
    "kernel/sysrq", "kernel/tainted", "kernel/panic", "kernel/shmmax", "kernel/msgmax", "kernel/pid_max",
    "vm/swappiness",
    "vm/overcommit_memory", "vm/mmap_min_addr", "fs/suid_dumpable", "fs/protected_symlinks", "fs/protected_hardlinks",
    "net/ipv4/ip_forward",
)  # fmt: skip
BINARIES = ("runc", "crun", "runsc", "containerd-shim-runc-v2", "dockerd")
ACCOUNTS = ("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/ld.so.preload", "/etc/crontab")
PLACES = ("/", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run")
CGROUP = Path("/sys/fs/cgroup")
CGROUPS = (
    "pids/docker/*/", "memory/docker/*/", "docker/*/", "system.slice/docker-*.scope/",
    "pids/mayfly/*/", "memory/mayfly/*/", "mayfly/*/",
)  # fmt: skip
LEFT_SECONDS = 60.0  # until what is there is taken for left
STATE_GROWTH_BYTES = 2 * 2**20
KERNEL_GROWTH_BYTES = 512 * 2**20  # other work on the machine has some too
CLOCK_SECONDS = 5.0
TERMINALS = 1000
SLOWDOWN = 5.0
# The possible targets of a case; each is in a snapshot, or in further assertions of the batch.
AIMS = frozenset({
    "sysctls", "modules", "binaries", "accounts", "keys", "sysv", "files", "processes", "mounts", "cgroups", "clock",
    "swap", "terminals", "descriptors", "memory", "state", "containers", "log", "bystander", "api", "result",
})  # fmt: skip


class Watched:
    """One installation's host, as it was when nothing ran."""

    def __init__(self, stack: Stack, pool: int, uids_each: int) -> None:
        """``uids_each``: how many uids a container leases."""
        self.stack, self._pool, self._uids_each = stack, pool, uids_each
        first = int(stack.env["MAYFLY_UID_FIRST"])
        self._uids = range(first, first + UIDS)
        self._state = Path(stack.env["MAYFLY_STATE_DIR"])
        self._engine = docker.APIClient()
        self._since = time.time() - 1
        self._made: set[str] = set()
        self._ours_by_name = tuple(f"mayfly-{worker['id']}-" for worker in stack.fleet())
        self.settle()
        self.before: dict[str, set[str]] = {}
        self.accept()
        self._answer_seconds = self.answer_seconds(15)

    def settle(self) -> None:
        """Wait until only the warm pool is left."""

        def quiet() -> bool:
            leases = list((self._state / "sandboxes").glob("*"))
            return len(leases) == self._pool * self._uids_each and len(self.stack.containers()) == self._pool

        eventually(quiet, f"only {self._pool} warm containers are left", 90)

    def accept(self) -> None:
        """Take the host as it is now for how it was before, so that the next batch answers for itself alone."""
        self._clock_seconds, self._kernel_bytes = _clock_seconds(), _kernel_memory_bytes()
        self._state_bytes = self._size()
        self.before = {name: now | self.before.get(name, set()) for name, now in self.snapshot().items()}

    def check(self, executions: list[str]) -> None:
        """Assert that it is as before, once these executions are deleted."""
        for id in executions:
            assert self.stack.client.delete(f"/api/v1/executions/{id}").status_code == 204
        self.settle()
        eventually(  # a pool of the right size may still change, or retire a container for its age
            lambda: self._size() - self._state_bytes < STATE_GROWTH_BYTES, "the state directory is as large as before"
        )
        left = self.differences()
        assert self._made, "the engine reported no new container"
        if not left:
            return

        def gone() -> bool:
            """The differences that stay between looks; those of other work on this machine change."""
            now = self.differences()
            for name in list(left):
                left[name] = left[name] & now.get(name, set())
                if not left[name]:
                    del left[name]
            return not left

        try:
            eventually(gone, "the host is as before", LEFT_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"the host has changed: {left}") from error

    def differences(self) -> dict[str, set[str]]:
        """The objects of the host that exist now and did not before, by name."""
        return {name: new for name, now in self.snapshot().items() if (new := now - self.before[name])}

    def snapshot(self) -> dict[str, set[str]]:
        """The host's facts, each a set of texts."""
        gone = self._gone_containers()
        return {
            "sysctls": {f"{name} = {_text(Path('/proc/sys') / name)!r}" for name in SYSCTLS},
            "modules": {line.split()[0] for line in _text(Path("/proc/modules")).splitlines()},
            "binaries": {f"{name} {_digest(shutil.which(name))}" for name in BINARIES},
            "accounts": {f"{name} {_digest(name)}" for name in ACCOUNTS},
            "keys": {row for row in _text(Path("/proc/key-users")).splitlines() if self._ours(row.split(":")[0])},
            "sysv": set(self._sysv()),
            "files": {str(path) for place in PLACES for path in Path(place).glob("*") if self._owned(path)},
            "processes": set(self._strays()),
            "mounts": set(self._orphan_mounts(gone)),
            "cgroups": {str(path) for pattern in CGROUPS for path in CGROUP.glob(pattern) if _id(path) in gone},
            "clock": {"set"} if abs(_clock_seconds() - self._clock_seconds) > CLOCK_SECONDS else set(),
            "swap": set(_text(Path("/proc/swaps")).splitlines()),
            "terminals": set() if int(_text(Path("/proc/sys/kernel/pty/nr")) or 0) < TERMINALS else {"many"},
            "memory": set() if _kernel_memory_bytes() - self._kernel_bytes < KERNEL_GROWTH_BYTES else {"more"},
        }

    def answer_seconds(self, times: int) -> float:
        """How fast the API answers now: the median of some requests that go to Redis."""
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            assert self.stack.client.get("/api/v1/executions", params={"limit": 1}).status_code == 200
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    def check_api(self) -> None:
        """Assert that the API answers as promptly as when nothing ran; other work may delay it for a moment."""
        eventually(lambda: self.answer_seconds(5) < SLOWDOWN * self._answer_seconds, "the API answers as before", 60)

    def close(self) -> None:
        self._engine.close()

    def _ours(self, uid: str | int) -> bool:
        return int(uid) in self._uids

    def _owned(self, path: Path) -> bool:
        try:
            return self._ours(path.lstat().st_uid)
        except FileNotFoundError:
            return False

    def _gone_containers(self) -> set[str]:
        """Ids of the containers that this installation made and that are no more.

        Without an engine that remembers them, those whose traces are still there.
        """
        if self.stack.env["MAYFLY_DRIVER"] == "oci":
            traces = {path.name for pattern in CGROUPS for path in CGROUP.glob(pattern)}
            made = {name for name in traces if name.startswith(self._ours_by_name)}
            self._made |= made
            return made - set(self.stack.containers())
        until = time.time()  # no later, or the engine waits for that time
        wanted = {"label": f"dev.mayfly.installation={self.stack.installation}", "event": "create"}
        since = f"{self._since:.6f}"
        engine: Any = self._engine  # its types know no times but whole seconds
        events = engine.events(since=since, until=f"{until:.6f}", filters=wanted, decode=True)
        self._made |= {event["id"] for event in events}
        self._since = until - 1
        return self._made - {container["Id"] for container in self._engine.containers(all=True)}

    def _orphan_mounts(self, gone: set[str]) -> Iterator[str]:
        for line in _text(Path("/proc/self/mounts")).splitlines():
            target = line.split()[1]
            if str(self._state) in target or not gone.isdisjoint(target.split("/")):
                yield target

    def _strays(self) -> Iterator[str]:
        """Processes of our uids but waiting agents and their forks, and runtimes whose container is gone."""
        bundles = f"{self._state}/oci/bundles/"
        there = set(self.stack.containers())
        for path in Path("/proc").glob("[0-9]*"):
            rows = _status(path)
            if rows and self._ours(uid := rows["Uid"].split()[0]):
                leased = (self._state / "sandboxes" / uid).exists()  # by a container that is not gone
                fork_ahead = leased and _is_first(_status(path.with_name(rows["PPid"])))
                if not _is_first(rows) and not fork_ahead:
                    yield f"{rows['Name']} {path.name}"
            _, ours, rest = _text(path / "cmdline").partition(bundles)
            if ours and not there & set(re.split(r"[/\0]", rest)):
                yield f"runtime {path.name}"

    def _sysv(self) -> Iterator[str]:
        for kind in ("shm", "msg", "sem"):
            for row in _text(Path("/proc/sysvipc") / kind).splitlines()[1:]:
                if any(self._ours(word) for word in row.split() if word.isdigit()):
                    yield f"{kind} {row}"

    def _size(self) -> int:
        """The bytes of all files in the state directory; what is removed meanwhile counts nothing."""
        size = 0
        for folder, _, names in os.walk(self._state):
            for name in names:
                with suppress(FileNotFoundError):
                    size += os.lstat(Path(folder, name)).st_size
        return size


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # gone meanwhile, or a kernel without it
        return ""


def _status(process: Path) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in _text(process / "status").splitlines() if ":\t" in line)


def _is_first(status: dict[str, str]) -> bool:
    """Whether it is the first process of its namespace."""
    return status.get("NSpid", "").split()[-1:] == ["1"]


def _digest(path: str | None) -> str | None:
    if path is None or not Path(path).exists():
        return None
    found = Path(path).stat()
    return _digest_of(Path(path), found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


@cache
def _digest_of(path: Path, *_unchanged: int) -> str:
    """Read the file again at each of the kernel's change events, one for every write."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _id(cgroup: Path) -> str:
    return cgroup.name.removeprefix("docker-").removesuffix(".scope")


def _clock_seconds() -> float:
    return time.time() - time.monotonic()


def _kernel_memory_bytes() -> int:
    """Kernel memory that cannot be reclaimed."""
    rows = dict(line.split(":") for line in _text(Path("/proc/meminfo")).splitlines())
    return int(rows["SUnreclaim"].split()[0]) * 1024
