"""A negative control for each field of the sandbox profile: its weakened value, and the observable effect.

A probe is an expression over ``observe.py``, evaluated in the sandbox. In the true sandbox ``holds`` is true of its
value; in a sandbox that differs in that one field it is not. ``field`` is what the worker's refusal says of it.

Controls with the same ``together`` weaken parts of one field that do not touch each other, and share a sandbox.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.environments import MAXIMAL_LIMITS
from orchestrator.models import Limits
from tests.hostile.sandbox import Edit
from worker.sandbox.syscalls import number_of

MIB = 2**20
MEMORY, DISK, PROCESSES = 128 * MIB, 2 * MIB, 10
LIMITS = Limits(
    wall_seconds=60, cpu_seconds=60, cpu_cores=1, memory_bytes=MEMORY, processes=PROCESSES, disk_bytes=DISK,
    output_bytes=MIB,
)  # fmt: skip
SHARED = MAXIMAL_LIMITS.memory_bytes  # of /dev/shm, and so of a file: what a container that waits may be given
KILLED = ["signal", signal.SIGSYS]
# The profile's paths once more, so that one that it loses is missed.
MASKED_PATHS = (
    "/dev/pts", "/proc/acpi", "/proc/asound", "/proc/bus", "/proc/config.gz", "/proc/driver", "/proc/fs",
    "/proc/interrupts", "/proc/irq", "/proc/kallsyms", "/proc/kcore", "/proc/key-users", "/proc/keys", "/proc/kmsg",
    "/proc/latency_stats", "/proc/locks", "/proc/modules", "/proc/pressure", "/proc/sched_debug", "/proc/scsi",
    "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READONLY_PATHS = ("/proc/sys", "/sys/fs/cgroup")
CAP_SYS_RESOURCE = 24


class Control(NamedTuple):
    """One guarantee."""

    name: str
    field: str
    weaken: Edit
    probe: str
    holds: Callable[[Any], bool]
    together: str = ""


def host(**fields: Any) -> Edit:
    """Other values in ``HostConfig``."""
    return lambda config: config["HostConfig"].update(fields)


def both(*edits: Edit) -> Edit:
    def edit(config: dict[str, Any]) -> None:
        for one in edits:
            one(config)

    return edit


def is_(value: Any) -> Callable[[Any], bool]:
    return lambda found: bool(found == value)


def everywhere(value: Any) -> Callable[[Any], bool]:
    """The same in every directory that a program can write; one that differs breaks it."""
    return lambda found: set(found.values()) == {value}


def at_most(most: int) -> Callable[[Any], bool]:
    return lambda found: isinstance(found, int) and found <= most


def number(name: str) -> int:
    found = number_of(name, platform.machine())
    assert found is not None
    return found


def ulimit(name: str, value: int) -> Edit:
    def edit(config: dict[str, Any]) -> None:
        for limit in config["HostConfig"]["Ulimits"]:
            if limit["Name"] == name:
                limit.update(Soft=value, Hard=value)

    return edit


def tmpfs(old: str, new: str) -> Edit:
    """Other options on every tmpfs."""

    def edit(config: dict[str, Any]) -> None:
        mounts = config["HostConfig"]["Tmpfs"]
        assert all(old in options for options in mounts.values())
        mounts.update({path: options.replace(old, new) for path, options in mounts.items()})

    return edit


def executable_everywhere(config: dict[str, Any]) -> None:
    mounts = config["HostConfig"]["Tmpfs"]
    mounts.update({path: options.replace("noexec", "exec") for path, options in mounts.items()})


def without(field: str, path: str) -> Edit:
    """A list of paths that lacks one."""
    return lambda config: config["HostConfig"][field].remove(path)


def inputs(**fields: Any) -> Edit:
    return lambda config: config["HostConfig"]["Mounts"][0].update(fields)


def filtered(change: Callable[[dict[str, Any]], Any]) -> Edit:
    """A seccomp profile that differs in one rule."""

    def edit(config: dict[str, Any]) -> None:
        options = config["HostConfig"]["SecurityOpt"]
        profile = json.loads(options[1].removeprefix("seccomp="))
        change(profile)
        options[1] = f"seccomp={json.dumps(profile)}"

    return edit


def allowing(*names: str) -> Edit:
    """Without the rules about these names, and with one that lets them through."""

    def change(profile: dict[str, Any]) -> None:
        for rule in profile["syscalls"]:
            rule["names"] = [name for name in rule["names"] if name not in names]
        profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
        profile["syscalls"].append({"names": list(names), "action": "SCMP_ACT_ALLOW"})

    return filtered(change)


def unlocked(config: dict[str, Any]) -> None:
    config["HostConfig"]["SecurityOpt"].remove("no-new-privileges")


def with_32_bit_entry(profile: dict[str, Any]) -> None:
    """In 32-bit code sockets are one call with arguments in memory, which the engine's library refuses to filter."""
    profile["architectures"].append("SCMP_ARCH_X86")
    profile["syscalls"] = [rule for rule in profile["syscalls"] if "socket" not in rule["names"]]


def as_another_user(config: dict[str, Any]) -> None:
    uid = config["User"].split(":")[0]
    config["User"] = "65534:65534"
    tmpfs(uid, "65534")(config)


def hostname(name: str) -> Edit:
    return lambda config: config.update(Hostname=name)


def networked(config: dict[str, Any]) -> None:
    config["NetworkDisabled"] = False
    config["HostConfig"]["NetworkMode"] = "host"


def other_namespace(kind: str) -> Callable[[Any], bool]:
    return lambda found: isinstance(found, str) and found != os.readlink(f"/proc/self/ns/{kind}")


def unconfined(config: dict[str, Any]) -> None:
    config["HostConfig"]["SecurityOpt"][1] = "seccomp=unconfined"


def may_raise_limits() -> bool:
    """Whether the engine, as the rest of this host, may give a container more than it has itself."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return bool(int(status["CapBnd"], 16) >> CAP_SYS_RESOURCE & 1)


def own_names(found: Any) -> bool:
    return set(found) == {"/"}


NAMESPACE = 'os.readlink("/proc/self/ns/{}")'
CLONE_NEWUSER = 0x10000000
SWAP = (
    'int(first_of("/sys/fs/cgroup/memory.swap.max", "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")'
    '.replace("max", str(2**63)))'
)

# fmt: off
CONTROLS = [
    # Namespaces
    Control("no network interface", "NetworkMode", networked, 'sorted(os.listdir("/sys/class/net"))', is_(["lo"]),
            "network"),
    Control("a network namespace", "NetworkMode", networked, NAMESPACE.format("net"), other_namespace("net"),
            "network"),
    Control("shared memory", "IpcMode", host(IpcMode="host"), NAMESPACE.format("ipc"), other_namespace("ipc")),
    Control("names of cgroups", "CgroupnsMode", host(CgroupnsMode="host"),
            '[line.rpartition(":")[2] for line in text("/proc/self/cgroup").splitlines()]', own_names),
    Control("processes", "PidMode", host(PidMode="host"),
            'sum(name.isdigit() for name in os.listdir("/proc"))', at_most(4)),
    Control("the host's name", "UTSMode", both(host(UTSMode="host"), hostname("")), NAMESPACE.format("uts"),
            other_namespace("uts")),
    Control("the same name for all", "Hostname", hostname("another"), "os.uname().nodename", is_("sandbox")),
    # Privileges
    Control("a uid of its own", "uid", as_another_user, "os.getuid()", lambda found: found >= 100_000),
    Control("capabilities", "CapDrop", host(CapDrop=[]), 'int(status("CapBnd"), 16)', is_(0)),
    Control("added capabilities", "CapAdd", host(CapAdd=["NET_RAW"]), 'int(status("CapBnd"), 16)', is_(0)),
    Control("no new privileges", "SecurityOpt", unlocked, 'status("NoNewPrivs")', is_("1")),
    Control("not privileged", "Privileged", host(Privileged=True), 'len(os.listdir("/dev"))', at_most(20)),
    Control("groups", "GroupAdd", host(GroupAdd=["12345"]), "12345 in os.getgroups()", is_(False)),
    Control("devices", "Devices",
            host(Devices=[{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/more", "CgroupPermissions": "r"}]),
            'os.path.exists("/dev/more")', is_(False)),
    Control("settings of the kernel", "Sysctls", host(Sysctls={"kernel.shm_rmid_forced": "1"}),
            'text("/proc/sys/kernel/shm_rmid_forced")', is_("0")),
    # Seccomp, as a whole and rule by rule
    Control("seccomp", "SecurityOpt", unconfined, 'status("Seccomp")', is_("2")),
    Control("seccomp: a tripwire", "SecurityOpt", allowing("unshare"),
            f"call({number('unshare')}, {CLONE_NEWUSER})", is_(KILLED), "rules"),
    Control("seccomp: what is not listed", "SecurityOpt", allowing("memfd_create"),
            f"call({number('memfd_create')}, -1, -1)", is_(errno.EPERM), "rules"),
    Control("seccomp: no network", "SecurityOpt", allowing("socket"),
            "error_of(lambda: socket.socket(socket.AF_INET))", is_(errno.EPERM), "rules"),
    Control("seccomp: families for attackers", "SecurityOpt", allowing("socket"),
            f"call({number('socket')}, 40, 1, 0)", is_(KILLED), "rules"),
    Control("seccomp: namespaces by clone", "SecurityOpt", allowing("clone"),
            f"call({number('clone')}, {CLONE_NEWUSER | 0x200}, 0, 0, 0, 0)", is_(errno.EPERM), "rules"),
    Control("seccomp: clone3 is hidden", "SecurityOpt", allowing("clone3"),
            f"call({number('clone3')}, 0, 0)", is_(errno.ENOSYS), "rules"),
    Control("seccomp: no ring of io_uring", "SecurityOpt", allowing("io_uring_setup"),
            f"call({number('io_uring_setup')}, 0, 0)", is_(errno.ENOSYS), "rules"),
    Control("seccomp: personality", "SecurityOpt", allowing("personality"),
            f"call({number('personality')}, 0x0040000)", is_(errno.EPERM), "rules"),
    Control("seccomp: others' limits", "SecurityOpt", allowing("prlimit64"),
            f"call({number('prlimit64')}, 1, 7, 0, 0)", is_(errno.EPERM), "rules"),
    Control("seccomp: options of prctl", "SecurityOpt", allowing("prctl"),  # PR_GET_TIMING
            f"call({number('prctl')}, 13, 0, 0, 0, 0)", is_(errno.EPERM), "rules"),
    # The arguments that a class leaves out (``worker/sandbox/arguments.py``); without the agent's filter they get
    # EPERM.
    Control("seccomp: filters of sockets", "SecurityOpt", allowing("setsockopt"),
            "error_of(lambda: socket.socket(socket.AF_UNIX).setsockopt(1, 26, b''))", is_(errno.EPERM), "rules"),
    Control("seccomp: what sockets say", "SecurityOpt", allowing("getsockopt"),  # SO_COOKIE
            "error_of(lambda: socket.socket(socket.AF_UNIX).getsockopt(1, 57, 8))", is_(errno.EPERM), "rules"),
    Control("seccomp: the agent's priority", "SecurityOpt", allowing("setpriority"),
            "error_of(lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))", is_(errno.EPERM), "rules"),
    Control("seccomp: users of the host", "SecurityOpt", allowing("getpriority"),
            "error_of(lambda: os.getpriority(os.PRIO_USER, 0))", is_(errno.EPERM), "rules"),
    Control("seccomp: the agent's processors", "SecurityOpt", allowing("sched_setaffinity"),
            "error_of(lambda: os.sched_setaffinity(1, {0}))", is_(errno.EPERM), "rules"),
    Control("seccomp: locks of open files", "SecurityOpt", allowing("fcntl"),
            f"call({number('fcntl')}, 99, 37, 0)", is_(errno.EPERM), "rules"),
    Control("seccomp: watches of readers", "SecurityOpt", allowing("inotify_add_watch"),  # IN_OPEN
            f"call({number('inotify_add_watch')}, 99, -1, 0x20)", is_(errno.EPERM), "rules"),
    Control("seccomp: requests of ioctl", "SecurityOpt", allowing("ioctl"),  # FS_IOC_FIEMAP
            f"call({number('ioctl')}, 99, 0xC020660B, 0)", is_(errno.EPERM), "rules"),
    Control("seccomp: merging of pages", "SecurityOpt", allowing("madvise"),
            f"call({number('madvise')}, -4096, 4096, 12)", is_(errno.EPERM), "rules"),
    Control("seccomp: huge pages of the host", "SecurityOpt", allowing("mmap"),
            f"call({number('mmap')}, 0, 2**50, 0, 0x40022, -1, 0)", is_(errno.EPERM), "rules"),
    Control("seccomp: past the page cache", "SecurityOpt", allowing("openat"),
            "error_of(lambda: os.open('/nothing', os.O_DIRECT))", is_(errno.EPERM), "rules"),
    Control("seccomp: past the page cache, by flags", "SecurityOpt", allowing("preadv2"),
            f"call({number('preadv2')}, 99, 0, 0, 0, 0, 0x80)", is_(errno.EPERM), "rules"),
    Control("seccomp: flags in memory", "SecurityOpt", allowing("openat2"),
            f"call({number('openat2')}, -1, -1, -1, 24)", is_(errno.ENOSYS), "rules"),
    Control("seccomp: pages of the image stay in the cache", "SecurityOpt", allowing("fadvise64"), "reread()", is_(0),
            "rules"),
    *(Control(f"seccomp: {name} does nothing", "SecurityOpt", allowing(name),
              f"call({number(name)}, 99, 0, 0, 4)", is_(0), "rules")
      for name in ("fsync", "fdatasync", "syncfs", "fadvise64")),
    *([Control("seccomp: the 32-bit entry", "SecurityOpt",
               filtered(with_32_bit_entry), "int80(20) > 0", is_(KILLED))] if platform.machine() == "x86_64" else []),
    # The file system
    Control("a read-only root", "ReadonlyRootfs", host(ReadonlyRootfs=False),
            'error_of(lambda: create("/usr/x"))', is_(errno.EROFS)),
    Control("read-only inputs", "Mounts", inputs(ReadOnly=False),
            'error_of(lambda: create("/inputs/x"))', is_(errno.EROFS)),
    Control("no other mounts", "Binds", host(Binds=["/etc:/more:ro"]), 'os.path.exists("/more")', is_(False)),
    Control("tmpfs: size", "Tmpfs", tmpfs(f"size={DISK}", f"size={2 * DISK}"),
            f"everywhere(lambda path: taken(path) + fills(path, {2 * DISK}))", everywhere(DISK), "tmpfs"),
    Control("tmpfs: inodes", "Tmpfs", tmpfs("nr_inodes=16384", "nr_inodes=20000"),
            "everywhere(lambda path: files(path, 17_000) < 16_384)", everywhere(True), "tmpfs"),
    Control("tmpfs: noexec", "Tmpfs", executable_everywhere,
            '{path: executes(path) for path in ("/tmp", "/output")}', everywhere(errno.EACCES), "tmpfs"),
    Control("tmpfs: nosuid", "Tmpfs", tmpfs("nosuid", "suid"),
            'everywhere(lambda path: flag(path, "NOSUID"))', everywhere(True), "tmpfs"),
    Control("tmpfs: nodev", "Tmpfs", tmpfs("nodev", "dev"),
            'everywhere(lambda path: flag(path, "NODEV"))', everywhere(True), "tmpfs"),
    Control("tmpfs: no other", "Tmpfs", lambda config: config["HostConfig"]["Tmpfs"].update({"/etc": "rw"}),
            'error_of(lambda: create("/etc/x"))', is_(errno.EROFS)),
    # A kernel without that path gives away nothing there.
    *(Control(f"masked: {path}", "MaskedPaths", without("MaskedPaths", path), f"masked({path!r})", is_(True), "masked")
      for path in MASKED_PATHS if Path(path).exists()),
    *(Control(f"read-only: {path}", "ReadonlyPaths", without("ReadonlyPaths", path), f'flag({path!r}, "RDONLY")',
              is_(True), "read-only")
      for path in READONLY_PATHS),
    # Limits
    Control("memory", "Memory", host(Memory=512 * MIB, MemorySwap=512 * MIB), f"len(bytearray({2 * MEMORY}))",
            is_(["signal", signal.SIGKILL])),
    Control("swap", "MemorySwap", host(MemorySwap=-1), SWAP, at_most(MEMORY)),
    Control("processes at a time", "PidsLimit", host(PidsLimit=100), "processes(50)", at_most(PROCESSES)),
    Control("size of shared memory", "ShmSize", host(ShmSize=2 * SHARED),
            'os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize', is_(SHARED)),
    Control("core dumps", "Ulimits", ulimit("core", 4096), 'of_agent("Max core file size")', is_("1"), "ulimits"),
    Control("size of a file", "Ulimits", ulimit("fsize", 2 * SHARED),
            f'error_of(lambda: open("/work/x", "wb").truncate({SHARED + 1}))', is_(errno.EFBIG), "ulimits"),
    Control("open files", "Ulimits", ulimit("nofile", 2048), "descriptors(2000)", at_most(1024), "ulimits"),
    Control("locked memory", "Ulimits", ulimit("memlock", 65536),
            "error_of(lambda: mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x2000))",  # MAP_LOCKED
            is_(errno.EPERM), "ulimits"),
    Control("message queues", "Ulimits", ulimit("msgqueue", 819_200),
            'error_of(lambda: create("/dev/mqueue/x"))', is_(errno.EMFILE), "ulimits"),
    *([Control("real-time priority", "Ulimits", ulimit("rtprio", 10), 'limit("rtprio")', is_(0), "ulimits")]
      if may_raise_limits() else []),  # where it is not even for the engine to give, there is nothing to weaken
    Control("whom the kernel takes first", "OomScoreAdj", host(OomScoreAdj=0), 'text("/proc/1/oom_score_adj")',
            is_("500")),
]
# fmt: on

# Observed from outside, in ``test_outside.py``.
OUTSIDE = ("NanoCpus", "LogConfig", "RestartPolicy")
NO_CONTROL = {
    "Runtime": "another runtime gives the same wall, and the isolation's own tests run on each",
    "UsernsMode": "only an engine that remaps user ids has another value",
    "AutoRemove": "it would lose the end of an execution, not weaken the wall",
}
