"""The configuration of one tool server's container, for an OCI runtime. Pure.

https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.broker.sandboxes import seccomp
from orchestrator.tool_environments import ToolServerLimits

GROUP = "mayfly-tools"  # of cgroups
PERIOD_MICROSECONDS = 100_000
RLIMITS = {"CORE": 0, "NOFILE": 4096, "MEMLOCK": 0, "MSGQUEUE": 0}
SHM_BYTES, INODES = 16 * 2**20, "nr_inodes=16384"
NAMESPACES = ("pid", "ipc", "uts", "mount", "cgroup")
NOTHING = ("nosuid", "noexec", "nodev")
# They include files that all containers share with the host: triggers on its pressure, its list of locks, and
# the file of its name, whose waiters wake at each start of a container.
MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/bus", "/proc/config.gz", "/proc/driver", "/proc/fs", "/proc/interrupts"),
    *("/proc/irq", "/proc/kallsyms", "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg", "/proc/locks"),
    *("/proc/latency_stats", "/proc/modules", "/proc/pressure", "/proc/sched_debug", "/proc/scsi"),
    *("/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
)
READ_ONLY = ("/proc/sys",)
# Of the host, for servers with the host's network: look-ups of names follow the host's configuration.
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs")


@dataclass(frozen=True)
class Bind:
    """A path of the host in the sandbox."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Sandbox:
    """One container. ``process`` comes from its image: ``Entrypoint``, ``Env``, ``WorkingDir``.

    ``owner`` has the uid and gid of a broker that is not root: the container then has no cgroup, and a user namespace
    that maps both to ``uid``. ``shared_proc``: a new proc file system cannot be mounted, and the container uses that of
    its broker.
    """

    name: str
    root: Path
    process: Mapping[str, Any]
    uid: int
    limits: ToolServerLimits
    env: Mapping[str, str]
    binds: tuple[Bind, ...] = ()
    network: bool = False
    owner: tuple[int, int] | None = None
    shared_proc: bool = False


def rendered(sandbox: Sandbox) -> dict[str, Any]:
    """The ``config.json`` of its bundle."""
    limits = sandbox.limits
    env = dict(line.split("=", 1) for line in sandbox.process["Env"]) | dict(sandbox.env)
    namespaces = (
        *NAMESPACES,
        *(() if sandbox.network else ("network",)),
        *(() if sandbox.owner is None else ("user",)),
    )
    proc = Bind("/proc", "/proc", writable=True)
    rlimits = RLIMITS if sandbox.owner is None else {**RLIMITS, "NPROC": limits.processes}  # of its user namespace
    return {
        "ociVersion": "1.0.2",
        "hostname": "tools",
        "root": {"path": str(sandbox.root), "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": sandbox.uid, "gid": sandbox.uid},
            "args": list(sandbox.process["Entrypoint"]),
            "env": [f"{name}={value}" for name, value in sorted(env.items())],
            "cwd": sandbox.process["WorkingDir"],
            "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
            "rlimits": [{"type": f"RLIMIT_{kind}", "soft": most, "hard": most} for kind, most in rlimits.items()],
            "noNewPrivileges": True,
            "oomScoreAdj": 500,
        },
        "mounts": [
            _bind(proc) if sandbox.shared_proc else _mount("/proc", "proc", *NOTHING),
            _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/shm", "tmpfs", *NOTHING, "mode=1777", f"size={SHM_BYTES}", INODES),  # noqa: S108
            _mount(
                "/tmp", "tmpfs", *NOTHING, f"uid={sandbox.uid}", f"gid={sandbox.uid}", "mode=0700",  # noqa: S108
                f"size={limits.scratch_bytes}", INODES,
            ),
            *(_bind(bind) for bind in sandbox.binds),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in namespaces],
            **(_cgroup(sandbox) if sandbox.owner is None else _users(sandbox.uid, *sandbox.owner)),
            "seccomp": seccomp.profile(sandbox.network, any(bind.writable for bind in sandbox.binds)),
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
        },
    }  # fmt: skip


def _cgroup(sandbox: Sandbox) -> dict[str, Any]:
    limits = sandbox.limits
    return {
        "cgroupsPath": f"/{GROUP}/{sandbox.name}",
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}],
            "memory": {"limit": limits.memory_bytes, "swap": limits.memory_bytes},
            "cpu": {"quota": round(limits.cpu_cores * PERIOD_MICROSECONDS), "period": PERIOD_MICROSECONDS},
            "pids": {"limit": limits.processes},
        },
    }


def _users(inside: int, uid: int, gid: int) -> dict[str, Any]:
    return {
        f"{kind}Mappings": [{"containerID": inside, "hostID": outside, "size": 1}]
        for kind, outside in (("uid", uid), ("gid", gid))
    }


def _mount(destination: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": list(options)}


def _bind(bind: Bind) -> dict[str, Any]:
    access = "rw" if bind.writable else "ro"
    options = ["rbind", access, "rprivate", "nosuid", "nodev", "noexec"]
    return {"destination": bind.target, "type": "bind", "source": bind.source, "options": options}
