"""The sandbox profile: all permissions of a container, from (environment, isolation, limits, uid). Pure.

Drivers render the profile and add nothing; only bounded numbers of a request enter it. ``SECURITY.md`` explains each
part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.environments import Environment
from orchestrator.models import MIN_CPU_CORES, Isolation, Limits
from worker.sandbox import seccomp

AGENT_PROCESSES = 2  # the agent, and the thread that keeps a Python program's output live
# gVisor's kernel enforces the program's number of processes (RLIMIT_NPROC). The host counts the threads of that kernel:
# some 45 at rest and, on two cores, up to 10 for each process in it. With a bound below 100 gVisor does not start, and
# at the bound it dies, so the host's bound is only a backstop.
HARDENED_THREADS = 256
HARDENED_THREADS_PER_PROCESS = 16
# The capabilities with which a container of gVisor starts, as root of that kernel, and those that its agent keeps.
START_CAPABILITIES = ("CAP_KILL", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID")
AGENT_CAPABILITIES = 1 << 5 | 1 << 6 | 1 << 7  # CAP_KILL, CAP_SETGID, CAP_SETUID (linux/capability.h)
ROOT = 0
INODES_PER_TMPFS = 16384
SLOW_CORES, STARTING_CORES = 0.1, 1.0  # a sandbox with less than the first starts with the second
OPEN_FILES = 1024

# Sizes of a TCP socket's buffers: smallest, default, largest. Unix sockets have the largest size as their default.
# Closed connections in TIME_WAIT are charged to no cgroup, so their number is bounded. TCP metrics of addresses would
# go into one table of the whole host, so they are not kept.
LOOPBACK_SYSCTLS = {
    "net.ipv4.tcp_rmem": "4096 16384 212992",
    "net.ipv4.tcp_wmem": "4096 16384 212992",
    "net.ipv4.tcp_max_tw_buckets": "4096",
    "net.ipv4.tcp_no_metrics_save": "1",
}
# The bound on the buffers of all sockets together, where the kernel charges them to no container: 64 MB, and 20 KB for
# each further socket.
LOOPBACK_BUFFER_BYTES = 64 * 2**20
# The agent's score is below the program's, which is raised to 1000, so the kernel kills the program first.
OOM_SCORE = 500

# Among them objects that all containers share with the host: the number of terminals, pressure triggers, the list of
# all open file description locks, whose ranges one program can write and all others can read, and the file of
# the host's name, whose waiters the kernel wakes whenever any container of the host is given its name.
MASKED_PATHS = (
    "/dev/pts", "/proc/acpi", "/proc/asound", "/proc/bus", "/proc/config.gz", "/proc/driver", "/proc/fs",
    "/proc/interrupts", "/proc/irq", "/proc/kallsyms", "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg",
    "/proc/latency_stats", "/proc/locks", "/proc/modules", "/proc/pressure", "/proc/sched_debug", "/proc/scsi",
    "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READONLY_PATHS = ("/proc/sys", "/sys/fs/cgroup")  # on cgroup v1 crun mounts a world-writable directory there


@dataclass(frozen=True)
class Tmpfs:
    """A writable, bounded, memory-backed directory."""

    path: str
    size_bytes: int
    inodes: int
    executable: bool

    @property
    def options(self) -> str:
        """Mount options, without the owner."""
        execution = "exec" if self.executable else "noexec"
        return f"rw,nosuid,nodev,{execution},size={self.size_bytes},nr_inodes={self.inodes}"


@dataclass(frozen=True)
class SandboxProfile:
    """The profile of one container. Sizes in bytes; ``binds`` are host paths, mounted read-only.

    ``uid`` is the uid of the program's processes, and of the agent unless there is an ``agent_uid`` (always in gVisor,
    where a shared uid would let the program reach the agent). A container made ``ahead`` of its program has a low CPU
    weight until the driver restores the usual weight.
    """

    name: str
    image: str
    runtime: str
    environment: str
    isolation: Isolation
    uid: int
    binds: dict[str, Path]
    memory_bytes: int
    cpu_cores: float
    pids: int
    shm_bytes: int
    tmpfs: tuple[Tmpfs, ...]
    ulimits: dict[str, int]
    seccomp: dict[str, Any]
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    oom_score: int
    labels: dict[str, str]
    sysctls: dict[str, str]
    buffer_bytes: int | None = None  # of TCP and UDP sockets, for drivers to bound with cgroup version 1
    ahead: bool = False
    loopback: bool = False
    hostname: str = "sandbox"
    agent_uid: int | None = None

    @property
    def start_uid(self) -> int:
        """The uid with which its first process starts: an engine gives capabilities only to root."""
        return self.uid if self.agent_uid is None else ROOT

    @property
    def start_capabilities(self) -> tuple[str, ...]:
        """The capabilities with which its first process starts."""
        return () if self.agent_uid is None else START_CAPABILITIES

    @property
    def start_directory(self) -> str | None:
        """The directory in which its first process starts; ``None`` for the image's own. /work is the program's."""
        return None if self.agent_uid is None else "/"


def sandbox_profile(
    environment: Environment,
    isolation: Isolation,
    limits: Limits,
    *,
    uid: int,
    image: str,
    runtime: str,
    binds: dict[str, Path],
    name: str,
    labels: dict[str, str],
    ahead: bool = False,
    loopback: bool = False,
    agent_uid: int | None = None,
) -> SandboxProfile:
    """The profile of one container. With ``loopback`` the program may be a server and its own client."""
    if (isolation == "hardened") != (agent_uid is not None):
        raise ValueError("The agent has a uid of its own in gVisor, and nowhere else.")
    return SandboxProfile(
        name=name,
        image=image,
        runtime=runtime,
        environment=environment.name,
        isolation=isolation,
        uid=uid,
        binds=binds,
        memory_bytes=limits.memory_bytes,
        cpu_cores=cpu_cores(limits),
        pids=pids_limit(isolation, limits),
        shm_bytes=shm_bytes(environment, isolation, limits),
        tmpfs=tuple(
            Tmpfs(path, limits.disk_bytes, INODES_PER_TMPFS, executable=path == "/work")
            for path in ("/work", "/tmp", "/output")  # noqa: S108 - paths inside the sandbox
        ),
        ulimits=ulimits(isolation, limits, shm_bytes(environment, isolation, limits)),
        seccomp=seccomp.profile(loopback),
        masked_paths=MASKED_PATHS,
        readonly_paths=READONLY_PATHS,
        oom_score=OOM_SCORE,
        labels=labels,
        sysctls=LOOPBACK_SYSCTLS if loopback and isolation == "standard" else {},
        buffer_bytes=LOOPBACK_BUFFER_BYTES if loopback and isolation == "standard" else None,
        ahead=ahead,
        loopback=loopback,
        agent_uid=agent_uid,
    )


def cpu_cores(limits: Limits) -> float:
    """The CPU cores of a container, never 0, since engines treat 0 as unlimited. The API refuses smaller values."""
    return max(MIN_CPU_CORES, limits.cpu_cores)


def pids_limit(isolation: Isolation, limits: Limits) -> int:
    """The cgroup's process limit: the program's limit plus the sandbox's own processes."""
    if isolation == "hardened":
        return HARDENED_THREADS + HARDENED_THREADS_PER_PROCESS * limits.processes
    return limits.processes + AGENT_PROCESSES


def shm_bytes(environment: Environment, isolation: Isolation, limits: Limits) -> int:
    """The size of /dev/shm, whose pages are charged to the container's memory: the memory limit is the effective bound.

    A waiting container can get another memory limit, but no other mount, so the size is the largest possible limit. In
    gVisor a waiting container cannot change.
    """
    return environment.maxima.memory_bytes if isolation == "standard" else limits.memory_bytes


def ulimits(isolation: Isolation, limits: Limits, shm_bytes: int) -> dict[str, int]:
    """Soft and hard resource limits of every process in the sandbox."""
    bounds = {
        "core": 1,  # no core file fits, and exactly this value keeps the kernel from starting a crash handler
        "fsize": max(limits.disk_bytes, shm_bytes),  # the mounts' own sizes bound files
        "nofile": OPEN_FILES,
        "memlock": 0,
        "msgqueue": 0,
        "rtprio": 0,
    }
    # In the standard tier the cgroup counts processes exactly, and counts refused forks.
    return bounds | {"nproc": limits.processes + AGENT_PROCESSES} if isolation == "hardened" else bounds
