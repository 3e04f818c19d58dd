"""Pure: findings about the kernel and the engine of a host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.host.posture.finding import Finding, broken, ok, weak
from orchestrator.host.posture.versions import compare

SEPARATION, BOUNDS, NAMES_ONLY, TENANTS = 4, 5, 7, 10
DESCRIPTORS = 1024  # of each process in a sandbox
KILL = "kill_process"


def check_cgroups(info: Mapping[str, Any], swaps: Iterable[str]) -> list[Finding]:
    """The caps on memory, CPU and processes, from the engine's ``info``; ``swaps`` are the devices in use."""
    version = str(info.get("CgroupVersion", "1"))
    needed = {"MemoryLimit": "memory", "CpuCfsQuota": "cpu", "PidsLimit": "pids"}
    missing = [controller for field, controller in needed.items() if not info.get(field)]
    boot = (
        "boot with systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory, or delegate the controllers to the engine"
    )
    if missing:
        found = broken("cgroups", BOUNDS, f"version {version} without {', '.join(missing)}: no cap on it", boot)
    elif version == "1":
        text = "version 1: every cap works; version 2 also kills all processes at once, and is still developed"
        found = weak("cgroups", text, "boot with systemd.unified_cgroup_hierarchy=1")
    else:
        found = ok("cgroups", f"version {version} with memory, cpu and pids")
    return [found, _swap(info, [line.split()[0] for line in swaps])]


def check_counters(root: str, visible: bool, writable: bool) -> Finding:
    """Whether this worker can read the counters of programs in their cgroups, and kill by cgroup."""
    if visible and not writable:
        detail = (
            f"cgroups at {root} can be read but not written: a kill goes through the engine, which signals only the "
            "first process, and a program can delay that process's end by using all CPU time"
        )
        return weak("counters", detail, "run the worker as root of this host, where its cgroups are mounted writable")
    if visible:
        return ok("counters", f"cgroups are read at {root}")
    detail = (
        f"there are no cgroups at {root}: nothing outside of a sandbox measures its CPU seconds or checks its limits"
    )
    return broken("counters", BOUNDS, detail, "set MAYFLY_CGROUP_ROOT to the mount point of this host's cgroups")


def _swap(info: Mapping[str, Any], devices: list[str]) -> Finding:
    if not devices:
        return ok("swap", "none in use")
    if info.get("SwapLimit"):
        return ok("swap", f"{', '.join(devices)} in use; sandboxes cannot use it")
    return broken(
        "swap", BOUNDS,
        f"{', '.join(devices)} in use and not accounted: a program may use it in addition to its memory limit",
        "swapoff -a, or boot with swapaccount=1",
    )  # fmt: skip


def check_seccomp(actions_available: str, actions_logged: str, options: Iterable[str]) -> list[Finding]:
    """The seccomp filter, and whether the kernel logs its kills. ``options`` are the engine's SecurityOptions."""
    engine = "seccomp" in _names(options)
    if KILL not in actions_available.split():
        found = broken(
            "seccomp", SEPARATION, f"this kernel has no {KILL}", "run Linux 4.14 or newer with CONFIG_SECCOMP_FILTER"
        )
    elif not engine:
        found = broken("seccomp", SEPARATION, "the engine applies no filters", "use an engine built with seccomp")
    else:
        found = ok("seccomp", "in the kernel and in the engine")
    if KILL in actions_logged.split():
        return [found, ok("seccomp log", f"{KILL} is logged")]
    detail = f"{KILL} is not logged: calls of killed child processes are not reported"
    return [found, weak("seccomp log", detail, f'sysctl -w kernel.seccomp.actions_logged="{KILL} {actions_logged}"')]


def check_attribution(state: str, reason: str) -> Finding:
    """Whether the kernel's records of denials can be read."""
    if state == "full":
        return ok("attribution", reason)
    return weak("attribution", f"reduced: {reason}; events say `inferred`", "run the worker with CAP_AUDIT_READ")


def check_security_modules(options: Iterable[str]) -> Finding:
    """The security module, a second line of defence behind the filter."""
    there = sorted(_names(options) & {"apparmor", "selinux"})
    if there:
        return ok("security module", ", ".join(there))
    return weak(
        "security module", "there is neither AppArmor nor SELinux behind the filter", "boot with security=apparmor"
    )


def check_user_namespaces(options: Iterable[str]) -> Finding:
    """Remapping of uids by the engine. Each sandbox has its own unprivileged uid also without remapping."""
    names = _names(options)
    if "userns" in names:
        detail = "the engine remaps uids: sandboxes start only if its map has every uid of MAYFLY_UID_FIRST's range"
        return weak("user namespaces", detail, "take userns-remap out of the engine's daemon.json")
    if "rootless" in names:
        return ok("user namespaces", "the engine runs without root")
    return ok("user namespaces", "no remapping; each sandbox has a uid of its own and can make no user namespace")


def check_engine_package(info: Mapping[str, Any]) -> Finding:
    """The engine of a snap sees few of the host's directories, and mounts empty ones in place of others
    (canonical/docker-snap, issue 189).
    """
    name, root = "engine package", str(info.get("DockerRootDir") or "")
    if not root.startswith("/var/snap/"):
        return ok(name, "the engine sees the host's directories")
    detail = f"the engine is a snap ({root}): sandboxes get no inputs from directories outside of /home"
    return weak(name, detail, "snap remove docker, then apt-get install docker.io")


def check_core_pattern(pattern: str) -> Finding:
    """The handler of crashed programs' memory.

    The limit on core files bounds a file. The kernel starts the handler behind a pipe (``|``) at any limit other than
    exactly 1 (``fs/coredump.c``), so sandboxes have the limit 1, which no program can change. The behaviour of a socket
    (``@``) is unknown.
    """
    pattern = pattern.strip()
    if pattern[:1] != "@":
        return ok("core_pattern", f"{pattern!r} is not used for sandboxes: their limit on core files is 1")
    return broken(
        "core_pattern", BOUNDS,
        f"{pattern.split()[0]!r}: at each crash in a sandbox the host's root runs this handler without any cap, on "
        "data that the program chose",
        "sysctl -w kernel.core_pattern=core",
    )  # fmt: skip


def check_sysctls(values: Mapping[str, str | None]) -> list[Finding]:
    """Settings that hide sandboxes from other users of the host; ``None`` if this kernel lacks the setting."""
    rows = (
        ("kernel.dmesg_restrict", 1, "every user of the host can read the kernel's log"),
        ("kernel.yama.ptrace_scope", 1, "a process can trace any other process of its uid"),
        ("kernel.unprivileged_bpf_disabled", 1, "every user of the host can load programs into the kernel"),
    )
    return [_sysctl(name, least, why, values.get(name)) for name, least, why in rows]


def _sysctl(name: str, least: int, why: str, value: str | None) -> Finding:
    short = name.rpartition(".")[2]
    if value is None:
        return ok(short, "not in this kernel; inside sandboxes the filter refuses such calls")
    if int(value) >= least:
        return ok(short, value.strip())
    return weak(short, f"{value.strip()}: {why}", f"sysctl -w {name}={least}")


def check_shared(values: Mapping[str, str | None], processes: int, kernel: str) -> list[Finding]:
    """Resources of the whole host that no cgroup counts. ``processes``: their largest number in all sandboxes."""
    overcommit, most, modprobe = (
        (values.get(name) or "").strip() for name in ("vm.overcommit_memory", "fs.file-max", "kernel.modprobe")
    )
    return [_overcommit(overcommit), _descriptors(int(most or 2**63), processes), _modules(modprobe, kernel)]


def _overcommit(value: str) -> Finding:
    if value != "2":
        return ok("overcommit_memory", "memory that a program maps counts when the program uses it")
    return broken(
        "overcommit_memory", TENANTS,
        "2: memory that a program maps and never touches is taken from all of the host, and no cgroup counts it",
        "sysctl -w vm.overcommit_memory=0",
    )  # fmt: skip


def _descriptors(most: int, processes: int) -> Finding:
    if processes * DESCRIPTORS <= most:
        return ok("file-max", "all sandboxes together can open fewer files than this host may have open")
    detail = (
        f"{most}: all sandboxes together can open {processes * DESCRIPTORS} files, and then only root can open more"
    )
    return weak("file-max", detail, f"sysctl -w fs.file-max={2 * processes * DESCRIPTORS}")


def _modules(modprobe: str, kernel: str) -> Finding:
    """Linux before 6.14 runs modprobe for each execution of a file whose format it does not know."""
    if not modprobe or compare(kernel, "6.14") >= 0:
        return ok("modprobe", "the kernel runs it for no program of a sandbox")
    detail = f"when a program executes a file of unknown format, this kernel runs {modprobe} as root, without any cap"
    return weak("modprobe", detail, "run Linux 6.14 or newer, or load all modules at boot and empty kernel.modprobe")


def check_cpu(vulnerabilities: Mapping[str, str]) -> Finding:
    """The kernel's report on vulnerabilities of the processor: channels between programs on the same processor."""
    bad = sorted(name for name, detail in vulnerabilities.items() if detail.startswith("Vulnerable"))
    if not bad:
        return ok("processor", "the kernel mitigates every known vulnerability of this processor")
    detail = f"not mitigated: {', '.join(bad)}; SECURITY.md promises nothing about side channels"
    return weak("processor", detail, "install current microcode, and boot without mitigations=off")


def check_runtimes(strange: Iterable[str]) -> Finding:
    """Whether the vulnerabilities of the configured runtimes are known here."""
    if names := ", ".join(strange):
        detail = f"{names}: not runc, crun or runsc, so its vulnerabilities are unknown and it was not tried"
        return weak("runtimes", detail, "set MAYFLY_STANDARD_RUNTIME and MAYFLY_HARDENED_RUNTIME to one of the three")
    return ok("runtimes", "all runtimes in use are known")


def check_engine_address(url: str, mode: int | None, owner: str, group: str, members: Iterable[str]) -> Finding:
    """The users of the engine's socket, which is equal to root on its host. ``mode`` is ``None`` for an address on a
    network.
    """
    name = "engine socket"
    scheme = url.partition("://")[0]
    if scheme in ("tcp", "http"):
        detail = f"{url} is not encrypted, and every client that reaches it is root on its host"
        return broken(name, NAMES_ONLY, detail, "set MAYFLY_DOCKER_URL to the engine's Unix socket")
    if mode is None:
        return weak(name, f"{url}: its other users cannot be determined from here", "prefer the engine's Unix socket")
    path = url.partition("://")[2]
    if mode & 0o002:
        return broken(name, NAMES_ONLY, f"every user of this host may use {path} (mode {mode:o})", f"chmod o-rw {path}")
    others = sorted(set(members) - {"root"})
    if mode & 0o020 and others:
        detail = f"these users are root through {path}: {', '.join(others)} (group {group})"
        return weak(name, detail, f"gpasswd --delete USER {group}, for each user that does not need it")
    return ok(name, f"{path}, mode {mode:o}, owner {owner}, group {group}")


def check_engine_access(driver: str, proxied: bool, options: Iterable[str]) -> Finding:
    """The access to the engine that an attacker would have who controls a worker; an engine is root as a rule."""
    name = "engine access"
    if driver == "oci":
        return ok(name, "oci: workers run OCI runtimes, and no engine")
    if proxied:
        return ok(name, "engine proxy: workers reach the engine only for the calls that make sandboxes")
    if "rootless" in _names(options):
        return ok(name, "rootless: the engine has no more rights than its user")
    detail = "direct: workers have the engine's socket, which is as good as root on this host"
    return weak(name, detail, "set MAYFLY_ENGINE_PROXY=true, as compose does")


def check_engine_listeners(info: Mapping[str, Any]) -> Finding:
    """The engine's own warning about listeners without client certificates."""
    for warning in info.get("Warnings") or ():
        if "API is accessible on" in warning:
            where = warning.partition("accessible on ")[2].split()[0]
            detail = f"the engine also answers on {where} without a client's certificate"
            return broken("engine listeners", NAMES_ONLY, detail, "remove this -H from dockerd, or add --tlsverify")
    return ok("engine listeners", "none on a network without certificates")


def _names(options: Iterable[str]) -> set[str]:
    """``["name=seccomp,profile=default", "name=rootless"]`` → the names."""
    fields = (field for option in options for field in option.split(","))
    return {value for key, _, value in (field.partition("=") for field in fields) if key == "name"}
