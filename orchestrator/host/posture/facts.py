"""Gathers the facts for the checks: files under /proc, /sys and /etc, modes, versions. Without side effects.

The callers pass in the facts about the engine and Redis.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.host import oci
from orchestrator.host.posture.installation import DiskSpace, PathMode
from orchestrator.host.posture.versions import Release, kernel_release, package_of
from orchestrator.settings import Settings

COMMAND_SECONDS = 5.0
NETLINK_AUDIT, AUDIT_READERS = 9, 1
RUNTIMES = ("runsc", "crun", "runc")
PACKAGES = {"docker.io": "engine", "containerd": "containerd", "runc": "runc", "crun": "crun", "runsc": "runsc"}
SYSCTLS = (
    "kernel.dmesg_restrict", "kernel.yama.ptrace_scope", "kernel.unprivileged_bpf_disabled", "vm.overcommit_memory",
    "fs.file-max", "kernel.modprobe",
)  # fmt: skip


class EngineFacts(NamedTuple):
    """The engine's ``/info`` and ``/version``, and the labels of each container that runs."""

    info: Mapping[str, Any]
    version: Mapping[str, Any]
    containers: list[Mapping[str, str]]


def host_facts(settings: Settings) -> EngineFacts:
    """The facts about this host in the form of an engine's, for the same checks."""
    controllers = set(read(str(settings.cgroup_root / "cgroup.controllers")).split())
    version = "2" if controllers else "1"
    if not controllers:
        controllers = {path.name for path in settings.cgroup_root.glob("*") if path.is_dir()}
    swap = settings.cgroup_root / "memory" / "memory.memsw.limit_in_bytes"
    info: dict[str, Any] = {
        "Runtimes": {one.name: {"path": one.path} for each in oci.found(settings).values() for one in each},
        "CgroupVersion": version,
        "MemoryLimit": "memory" in controllers,
        "CpuCfsQuota": "cpu" in controllers,
        "PidsLimit": "pids" in controllers,
        "SwapLimit": version == "2" or swap.exists(),
        "SecurityOptions": ["name=seccomp"],
    }
    return EngineFacts(info, {}, [])


def read(path: str) -> str:
    """A file's text; empty if the file is missing or unreadable."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def sysctls() -> dict[str, str | None]:
    """Kernel settings by name; ``None`` where this kernel has none or does not show it."""
    return {name: read(f"/proc/sys/{name.replace('.', '/')}") or None for name in SYSCTLS}


def vulnerabilities() -> dict[str, str]:
    """The kernel's report on each vulnerability of the processor."""
    return {path.name: read(str(path)) for path in Path("/sys/devices/system/cpu/vulnerabilities").glob("*")}


def attribution() -> tuple[str, str]:
    """``full`` or ``reduced``, with the reason: whether the kernel's records of denials can be read."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT) as audit:
            audit.bind((0, AUDIT_READERS))
        return "full", "the kernel's audit messages can be read"
    except OSError as error:
        refused = error.strerror
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return "reduced", f"neither the kernel's audit messages ({refused}) nor its log can be read"
    return "full", "the kernel's log can be read"


def cgroups_visible(root: Path) -> bool:
    """Whether cgroups of either version are mounted there."""
    return (root / "cgroup.controllers").is_file() or (root / "cpuacct").is_dir()


def cgroups_writable(root: Path) -> bool:
    """Whether this process may write cgroups, and so kill all processes of a container at once."""
    return any(os.access(root / each / "cgroup.procs", os.W_OK) for each in (".", "freezer", "pids"))


def components(info: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The known runtime behind each of the engine's names, with its path on this machine (empty if absent)."""
    found = {}
    for name, runtime in (info.get("Runtimes") or {}).items():
        command = runtime.get("path") or name
        known = next((known for known in RUNTIMES if known in Path(command).name), None)
        if known is not None:
            found[name] = (known, shutil.which(command) or shutil.which(known) or "")
    return found


def kernel() -> Release:
    """The running kernel, also from within a container."""
    system = os.uname()
    return kernel_release(system.release, system.version, read("/proc/version_signature"))


def releases(engine: EngineFacts) -> list[Release]:
    """The releases of the engine and its runtimes."""
    found: dict[str, Release] = {}
    packages = _packages()
    for part in engine.version.get("Components") or ():
        name, commit = part["Name"].lower(), str((part.get("Details") or {}).get("GitCommit", ""))
        if name in PACKAGES.values():
            found[name] = _release(name, str(part.get("Version", "")), package_of(commit), packages)
    for known, path in components(engine.info).values():
        if known not in found:
            found[known] = _release(known, oci.version_of(path) if path else "", "", packages)
    return list(found.values())


def used_components(settings: Settings, info: Mapping[str, Any]) -> set[str]:
    """The components on which Mayfly's sandboxes depend."""
    known = components(info)
    wanted = [next((name for name in names if name in known), "") for names in settings.runtime_names().values()]
    engine = {"engine", "containerd"} if settings.driver == "docker" else set()
    return engine | {known[name][0] for name in wanted if name}


def strange_runtimes(settings: Settings, info: Mapping[str, Any]) -> list[str]:
    """The configured runtimes whose releases are unknown here."""
    known, there = components(info), info.get("Runtimes") or {}
    wanted = (settings.standard_runtime, settings.hardened_runtime)
    return [name for name in wanted if name in there and name not in known]


def secrets(settings: Settings) -> list[PathMode]:
    """The existing files of keys."""
    paths = {
        "signing key": settings.secret_path,
        "admin key": settings.admin_key_path,
        "token keys": settings.token_keys_path,
    }
    if settings.redis_password_file is not None:
        paths["redis password"] = settings.redis_password_file.absolute()
    return _modes(paths)


def directories(settings: Settings) -> list[PathMode]:
    """The existing directories."""
    return _modes(
        {
            "state directory": settings.state_dir.absolute(),
            "blobs": settings.blobs_path,
            "images": settings.images_path,
            "sandboxes": settings.sandboxes_path,
        }
    )


def spaces(settings: Settings) -> list[DiskSpace]:
    """The free space of the directories that Mayfly writes."""
    places = {"state": settings.state_dir.absolute(), "blobs": settings.blobs_path, "inputs": settings.sandboxes_path}
    if settings.driver == "oci":
        places["containers"] = settings.oci_path
    return [DiskSpace(name, str(path), shutil.disk_usage(existing(path)).free) for name, path in places.items()]


def existing(path: Path) -> Path:
    """A path, or its longest existing prefix."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def socket_access(path: Path) -> tuple[int, str, str, list[str]] | None:
    """A socket's mode, owner, group and the group's members; ``None`` for an absent or inaccessible socket."""
    try:
        found = path.stat()
    except OSError:
        return None
    try:
        group = grp.getgrgid(found.st_gid)
        name, members = group.gr_name, list(group.gr_mem)
    except KeyError:  # the host's group, which is unknown inside a container
        name, members = str(found.st_gid), []
    members += [user.pw_name for user in pwd.getpwall() if user.pw_gid == found.st_gid]
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = str(found.st_uid)
    return stat.S_IMODE(found.st_mode), owner, name, members


def users() -> dict[str, int]:
    """This host's users and their uids."""
    return {user.pw_name: user.pw_uid for user in pwd.getpwall()}


def _modes(paths: dict[str, Path]) -> list[PathMode]:
    found = []
    for name, path in paths.items():
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            reachable = all(above.stat().st_mode & 0o001 for above in path.parents)
        except OSError:  # absent, or inaccessible to this process
            continue
        found.append(PathMode(name, str(path), mode, reachable))
    return found


def _packages() -> dict[str, str]:
    """The distribution's versions by component, from dpkg."""
    listed = _output("dpkg-query", "--show", "--showformat=${Package} ${Version}\\n", *PACKAGES)
    rows = (line.split() for line in listed.splitlines())
    return {PACKAGES[row[0]]: row[1] for row in rows if len(row) == 2}


def _release(component: str, version: str, package: str, packages: dict[str, str]) -> Release:
    installed = packages.get(component, "")
    if not package and version and installed.rpartition("-")[0].rpartition(":")[2] == version:
        package = installed  # the running release is the installed release
    return Release(component, version, package)


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
