"""The seccomp filter of every container: an allow-list for one architecture, with tripwires.

The agent installs two more filters before it makes the program's process: the first returns other error codes than
EPERM for some refused calls (``answers.py``); the second makes the kernel log relevant denials (``log_filter.py``), and
closes ``seccomp``, which the agent needed. Without both filters no program starts. The second filter also kills the
whole process for a call by another entry, where an engine's filter kills only the calling thread.

Each group has its reason. Calls in no group fail with EPERM: an ordinary program may try them and continue. Calls that
are allowed with certain arguments only are in ``arguments.py``. A tripwire is a call that only an attacker makes: it
kills the process, and the kernel logs the kill. The lists contain the observed calls of CPython 3.11, Node 24, bash,
coreutils and tcc from Debian 12, the rest of each family where libc picks a call by version or argument, and the calls
of runc and crun between installing the filter and executing the agent.

Two properties of the engines shape the rules. Architectures other than the native one are closed, so calls by the
32-bit entry (``int 0x80``), whose numbers a 64-bit filter would misread, and x32 calls are killed. Conditions of one
rule on the same argument index are alternatives, so no rule here has two conditions on an index. The engine's
libseccomp drops unknown names: such an allowed call or tripwire answers EPERM, or ENOSYS from runc for numbers beyond
the highest known one.
"""

from __future__ import annotations

import errno
import json
import platform
from collections import deque
from functools import cache
from typing import Any

from worker.sandbox.arguments import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_UNIX,
    LOW_WORD,
    POSIX_FADV_DONTNEED,
    Condition,
    classes,
)

ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}

ALLOW: dict[str, str] = {
    "memory; locking is left out, since its limit is 0": "brk mprotect mremap msync munmap pkey_alloc pkey_free "
    "pkey_mprotect",
    "files": "access chdir chmod close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fallocate "
    "fchdir fchmod fchmodat flock fstat fstatfs ftruncate getcwd getdents getdents64 lchown chown fchown fchownat link "
    "linkat lseek lstat mkdir mkdirat newfstatat pipe pread64 preadv pwrite64 pwritev read readlink readlinkat "
    "readv rename renameat renameat2 rmdir sendfile stat statfs statx symlink symlinkat truncate umask unlink unlinkat "
    "utime utimensat utimes write writev",
    "named pipes; device files take a capability": "mknod mknodat",
    "attributes are read, never written": "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr",
    "waiting": "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 poll ppoll "
    "pselect6 select inotify_init inotify_init1 inotify_rm_watch signalfd signalfd4",
    "time": "alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time times "
    "timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime "
    "timerfd_settime",
    "processes and threads": "arch_prctl execve exit exit_group fork vfork futex set_robust_list set_tid_address rseq "
    "sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min sched_yield "
    "wait4 waitid getrlimit getrusage restart_syscall",
    "fexecve; no wider than execve": "execveat",
    "asyncio waits for children by descriptor; taking descriptors out of another process is a tripwire": "pidfd_open "
    "pidfd_send_signal",
    "signals": "kill tgkill tkill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn "
    "rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack",
    "identity; without capabilities it cannot be raised, and runtimes set it with the filter in place": "getegid "
    "geteuid getgid getgroups getpgid getpgrp getpid getppid getresgid getresuid getsid gettid getuid setfsgid "
    "setfsuid setgid setgroups setpgid setregid setresgid setresuid setreuid setsid setuid capget capset",
    "the machine": "getcpu getrandom sysinfo uname",
    "Unix sockets, as asyncio and multiprocessing use them": "accept accept4 bind connect getpeername getsockname "
    "listen recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto shutdown",
    "for the agent, whose logging filter then closes it to the program": "seccomp",
}

# Answered with success, without effect. A program's files are in memory, so there is no disk to wait for; the kernel
# would flush the disk of the host, where the image lies. One program must not evict the image's pages from memory,
# since all containers read them. The values are conditions on arguments.
NO_EFFECT: dict[str, tuple[Condition, ...]] = {
    **dict.fromkeys(("fsync", "fdatasync", "sync", "syncfs"), ()),
    "fadvise64": ((3, LOW_WORD, POSIX_FADV_DONTNEED),),
}
# Calls whose arguments lie in memory, where a filter cannot see them; on ENOSYS libraries use the older form. Node.js
# requests an io_uring at its start and continues without; a sandbox has no ring, so a call that uses one (TRIPWIRES) is
# an attack.
HIDDEN_ARGUMENTS = ("clone3", "openat2", "io_uring_setup")

TRIPWIRES: dict[str, str] = {
    "asynchronous kernel interfaces that bypass a filter": "io_uring_enter io_uring_register userfaultfd",
    "keyrings are not namespaced": "add_key keyctl request_key",
    "looking into the kernel": "bpf perf_event_open lookup_dcookie kcmp",
    "namespaces and mounts": "unshare setns mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick open_tree "
    "move_mount mount_setattr",
    "other processes' memory and descriptors": "ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd",
    "the machine itself": "kexec_load kexec_file_load init_module finit_module delete_module reboot swapon swapoff "
    "acct settimeofday clock_settime clock_adjtime adjtimex iopl ioperm quotactl",
    "files by handle, past the mount namespace": "open_by_handle_at name_to_handle_at",
    "segments of the processor": "modify_ldt",
}

# Families that ordinary programs request (getifaddrs, Node) fail with EPERM: unspecified, IPv4, IPv6 and netlink, and
# future families beyond AF_MCTP. Every other family is a tripwire.
GOOD_FAITH_FAMILIES = {
    0: "AF_UNSPEC",
    AF_UNIX: "AF_UNIX",
    AF_INET: "AF_INET",
    AF_INET6: "AF_INET6",
    AF_NETLINK: "AF_NETLINK",
}
HIGHEST_FAMILY = 45
TRIPWIRE_FAMILIES = tuple(sorted(set(range(HIGHEST_FAMILY + 1)) - GOOD_FAITH_FAMILIES.keys()))

# Denials that indicate a program's intent, with reasons. The container's filter does not log them; ``log_filter`` does.
TELLING: dict[str, str] = {
    "socket": "there is no network; only Unix sockets can be made",
    "socketpair": "there is no network; only Unix sockets can be made",
    "clone": "no process may create namespaces",
    "ioctl": "no process may type into a terminal",
    "prctl": "no process may install a filter, with which it could forge the kernel's log, or have the kernel "
    "compare its memory with that of other sandboxes",
    "madvise": "no process may have the kernel compare its memory with that of other sandboxes",
    "setsockopt": "no process may attach a filter to a socket: it is compiled into memory of the host's kernel that is "
    "counted for no sandbox",
    "inotify_add_watch": "no process may watch who opens or reads a file: the files of namespaces are the same for all "
    "sandboxes; watch for changes",
    "fcntl": "locks of open files and leases are counted for no sandbox; lock with flock or F_SETLK",
    **dict.fromkeys(
        ("setpriority", "sched_setaffinity", "sched_setparam", "sched_setscheduler", "ioprio_set", "prlimit64"),
        "no process may change how the agent is scheduled or limited, or a whole group of processes or user",
    ),
    "getpriority": "no process may ask about a user: the time of the answer shows whether that user has processes on "
    "the host, also in other sandboxes",
    "seccomp": "no process may install a filter, which could forge the kernel's records",
    **dict.fromkeys(("memfd_create", "memfd_secret"), "files without a name escape the bounds and flags of /tmp"),
    **dict.fromkeys(
        ("shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgctl", "semget", "semop", "semctl"),
        "System V shared memory, queues and semaphores are closed; use files, pipes or Unix sockets",
    ),
    **dict.fromkeys(("mq_open", "mq_unlink"), "message queues are closed; use pipes or Unix sockets"),
    **dict.fromkeys(("splice", "tee", "vmsplice"), "moving pages between pipes is closed; read and write"),
    **dict.fromkeys(("sethostname", "setdomainname"), "the machine's name is fixed"),
    "personality": "a program cannot change how the kernel treats it, such as the layout of its memory",
    "syslog": "the kernel's log is the host's",
    "fanotify_init": "watching whole file systems is closed; inotify watches files",
}
_texts: deque[tuple[dict[str, Any], str]] = deque(maxlen=2)  # profiles with and without a loopback, as JSON


@cache
def profile(loopback: bool = False) -> dict[str, Any]:
    """The profile for this machine's architecture, in the format of Docker and the OCI specification. Callers must not
    modify it.

    With ``loopback`` it allows TCP and UDP sockets: see ``LOOPBACK_SOCKETS``.
    """
    allowed = sorted({name for names in ALLOW.values() for name in names.split()})
    forbidden = sorted({name for names in TRIPWIRES.values() for name in names.split()})
    sockets = ["socket", "socketpair"]
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise RuntimeError(f"no seccomp profile for {machine}; known: {', '.join(ARCHITECTURES)}")
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": [ARCHITECTURES[machine]],
        "syscalls": [
            _rule(allowed, "ALLOW"),
            _rule(forbidden, "KILL_PROCESS"),
            *(_rule(sockets, "KILL_PROCESS", (0, LOW_WORD, family)) for family in TRIPWIRE_FAMILIES),
            *(_rule(list(one.calls), "ALLOW", *one.conditions) for one in classes(machine, loopback)),
            *({**_rule([name], "ERRNO", *which), "errnoRet": 0} for name, which in NO_EFFECT.items()),
            {**_rule(list(HIDDEN_ARGUMENTS), "ERRNO"), "errnoRet": errno.ENOSYS},
        ],
    }


def encoded(made: dict[str, Any]) -> str:
    """A profile as JSON, encoded once for each object: the profile is nine tenths of a container's configuration."""
    text = next((known for made_of, known in list(_texts) if made_of is made), None)
    if text is None:
        text = json.dumps(made)
        _texts.append((made, text))
    return text


def reason(name: str, architecture: str) -> str:
    """The reason why a system call is not allowed, as the part of a sentence after a colon."""
    if architecture != platform.machine():
        return f"it came by the entry for {architecture}, which is closed"
    for why, names in TRIPWIRES.items():
        if name in names.split():
            return why
    return TELLING.get(name, "programs do not need it")


def _rule(names: list[str], action: str, *conditions: Condition) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": f"SCMP_ACT_{action}"}
    arguments = [
        {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
        for index, mask, value in conditions
    ]
    return {**rule, "args": arguments} if conditions else rule
