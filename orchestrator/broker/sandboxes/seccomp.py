"""The refused system calls of tool servers. Pure.

A tool server is a package that the operator chose and locked, so this is a list of refusals, while programs' sandboxes
have a list of permissions. Refused are calls that reach other processes, mounts, namespaces, the kernel's own
facilities or unusual sockets, and calls that create objects charged to no container or shared with the whole host
(``ARGUMENTS``). Calls of another architecture (``int 0x80``, x32) kill the process, as libseccomp does.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Any

EPERM, EINVAL, ENOSYS, ENOTSUP = 1, 22, 38, 95
ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
REFUSED = (
    # mounts, namespaces, roots
    *("mount", "umount", "umount2", "pivot_root", "chroot", "unshare", "setns", "move_mount", "open_tree", "fsopen"),
    *("fsconfig", "fsmount", "fspick", "mount_setattr", "open_by_handle_at", "name_to_handle_at"),
    # other processes
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"),
    # the kernel
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "syslog"),
    *("keyctl", "add_key", "request_key", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "nfsservctl"),
    *("iopl", "ioperm", "modify_ldt", "lookup_dcookie", "vhangup", "uselib", "ustat", "memfd_secret"),
    # filters of its own, which are compiled into memory of the host that no cgroup counts
    "seccomp",
    # queues of asynchronous disk access, which count against one limit of the host (fs.aio-max-nr)
    "io_setup",
    # watches of whole file systems
    "fanotify_init",
    # the host's clock
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime"),
)
# Access control lists of files in memory, of up to 128 KiB each, count for no cgroup. Programs accept file systems
# without attributes. libseccomp before 2.6 does not know `setxattrat` (Linux 6.13), and then the call is not refused.
ATTRIBUTES = ("setxattr", "lsetxattr", "fsetxattr", "setxattrat")
# Calls that flush the host's disks, for servers without a writable directory on a disk: success without effect.
FLUSHES = ("fsync", "fdatasync", "sync", "syncfs")
# Calls with which crun starts a rootless container.
STARTING = ("mount", "umount2", "pivot_root", "unshare", "setns", "seccomp")
NEW_NAMESPACES = 0x7E020080  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME
NAMESPACE_FLAGS = tuple(1 << bit for bit in range(32) if NEW_NAMESPACES >> bit & 1)
UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
LAST_FAMILY = 64
LOW_WORD = 0xFFFFFFFF  # of an argument that the kernel takes as an int, without its upper half
SET_FILTER = ("prctl", ((0, LOW_WORD, 22),), EPERM)  # PR_SET_SECCOMP, the older form of `seccomp`
# Calls that are refused with certain arguments: (argument, mask, value) that hold together, and the error.
ARGUMENTS: tuple[tuple[str, tuple[tuple[int, int, int], ...], int], ...] = (
    # Filters of sockets: SO_ATTACH_FILTER, SO_LOCK_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF and _EBPF. They
    # count for no cgroup, against one limit of the host, at which no container can install its own filter.
    *(("setsockopt", ((1, LOW_WORD, 1), (2, LOW_WORD, option)), EPERM) for option in (26, 44, 50, 51, 52)),
    SET_FILTER,
    # PR_SET_VMA: names of memory, which count for no cgroup.
    ("prctl", ((0, LOW_WORD, 0x53564D41),), EPERM),
    # PR_SET_MEMORY_MERGE and MADV_MERGEABLE, which compare pages with those of other containers.
    ("prctl", ((0, LOW_WORD, 67),), EINVAL),
    ("madvise", ((2, LOW_WORD, 12),), EINVAL),
    # F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW and F_SETLEASE: locks without a process, which count for no cgroup.
    *(("fcntl", ((1, LOW_WORD, command),), EPERM) for command in (36, 37, 38, 1024)),
    # MAP_HUGETLB and MFD_HUGETLB: pages of the host's own pool, which count for no cgroup
    ("mmap", ((3, 0x40000, 0x40000),), EPERM),
    ("memfd_create", ((1, 0x4, 0x4),), EPERM),
    # IN_ACCESS, IN_CLOSE_NOWRITE and IN_OPEN: the files of namespaces are the same for all containers.
    *(("inotify_add_watch", ((2, flag, flag),), EPERM) for flag in (0x1, 0x10, 0x20)),
    ("pipe2", ((1, 0x80, 0x80),), EPERM),  # O_NOTIFICATION_PIPE: the kernel's notifications count for no cgroup
)


def profile(network: bool, writable: bool) -> dict[str, Any]:
    """The ``seccomp`` of an OCI configuration. With ``network`` sockets of the Internet and of netlink are allowed.

    ``writable``: whether the server writes to a directory on a disk.
    """
    families = {UNIX, INET, INET6, NETLINK} if network else {UNIX}
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [ARCHITECTURES[platform.machine()]],
        "syscalls": [
            _refuse(REFUSED),
            _refuse(ATTRIBUTES, error=ENOTSUP),
            *([] if writable else [_refuse(FLUSHES, error=0)]),
            _refuse(("clone3",), error=ENOSYS),  # its flags lie in memory; libc then takes clone
            *(_refuse(("clone",), 0, flag, "SCMP_CMP_MASKED_EQ", flag) for flag in NAMESPACE_FLAGS),
            *(_refuse(("socket",), 0, family) for family in range(LAST_FAMILY) if family not in families),
            _refuse(("socket",), 0, LAST_FAMILY, "SCMP_CMP_GE"),
            *(_refuse_arguments(*one) for one in ARGUMENTS),
        ],
    }


def rootless_broker() -> dict[str, Any]:
    """The profile for the container of a broker with rootless sandboxes: crun needs more calls than a server.

    Container engines forbid new namespaces and mounts to processes without capabilities. In a separate user namespace
    these calls give no rights outside of the namespace; they do expose more of the kernel.
    """
    allowed = profile(network=True, writable=True)
    rules = [rule for rule in allowed["syscalls"] if rule["names"] not in ([*REFUSED], [*ATTRIBUTES], ["clone"])]
    rules.remove(_refuse_arguments(*SET_FILTER))  # each sandbox has its filter from crun
    kept = [name for name in REFUSED if name not in STARTING]
    return {
        "defaultAction": allowed["defaultAction"],
        "archMap": [{"architecture": name, "subArchitectures": []} for name in ARCHITECTURES.values()],
        "syscalls": [_refuse(kept), *rules],
    }


def _refuse(
    names: Iterable[str],
    index: int | None = None,
    value: int = 0,
    comparison: str = "SCMP_CMP_EQ",
    second: int = 0,
    error: int = EPERM,
) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": error}
    if index is not None:
        rule["args"] = [{"index": index, "value": value, "valueTwo": second, "op": comparison}]
    return rule


def _refuse_arguments(name: str, conditions: Iterable[tuple[int, int, int]], error: int) -> dict[str, Any]:
    args = [
        {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
        for index, mask, value in conditions
    ]
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": error, "args": args}
