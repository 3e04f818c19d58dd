"""The seccomp filters of every sandbox: an allow-list for one architecture, with tripwires; and the agent's filters.

The agent installs two filters before it makes the program's process: the first returns other error codes than EPERM for
some refused calls (``answers.py``); the second makes the kernel log relevant denials, and closes ``seccomp``, which the
agent needed. Without both filters no program starts. The second filter also kills the whole process for a call by
another entry, where an engine's filter kills only the calling thread.

Each group has its reason. Calls in no group answer EPERM: an ordinary program may try them and carry on. Calls that are
allowed with certain arguments only are in ``arguments.py``. A tripwire is a call that only an attacker makes: it kills
the process, and the kernel logs that. The lists contain the observed calls of CPython 3.11, Node 24, bash, coreutils
and tcc from Debian 12, the rest of each family where libc picks a call by version or argument, and the calls of runc
and crun between installing the filter and executing the agent.

Two properties of the engines shape the rules. Architectures other than the native one are closed, so calls by the
32-bit entry (``int 0x80``), whose numbers a 64-bit filter would misread, and x32 calls are killed. Conditions of one
rule on the same argument index are alternatives, so no rule here has two conditions on an index. The engine's
libseccomp drops unknown names: such an allowed call or tripwire answers EPERM, or ENOSYS from runc for numbers beyond
the highest known one.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any

from worker.sandbox.arguments import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_UNIX,
    AGENT,
    CLONE_NEW_ANY,
    F_SETLEASE,
    LOOPBACK_SOCKETS,
    LOW_WORD,
    MADV_MERGEABLE,
    OPEN_DESCRIPTION_LOCKS,
    POSIX_FADV_DONTNEED,
    PR_SET_MEMORY_MERGE,
    SOCK_DGRAM,
    SOCKET_FILTERS,
    SOL_SOCKET,
    Condition,
    classes,
)
from worker.sandbox.syscalls import number_of

ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
TIOCLINUX, TIOCSTI = 0x541C, 0x5412
PR_SET_SECCOMP = 22

ALLOW: dict[str, str] = {
    "memory; locking it is left out, the limit is 0 anyway": "brk mprotect mremap msync munmap pkey_alloc pkey_free "
    "pkey_mprotect",
    "files": "access chdir chmod close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fallocate "
    "fchdir fchmod fchmodat flock fstat fstatfs ftruncate getcwd getdents getdents64 lchown chown fchown fchownat link "
    "linkat lseek lstat mkdir mkdirat newfstatat pipe pipe2 pread64 preadv pwrite64 pwritev read readlink readlinkat "
    "readv rename renameat renameat2 rmdir sendfile stat statfs statx symlink symlinkat truncate umask unlink unlinkat "
    "utime utimensat utimes write writev",
    "named pipes; device files take a capability": "mknod mknodat",
    "attributes are read, never written": "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr",
    "waiting": "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 poll ppoll "
    "pselect6 select inotify_add_watch inotify_init inotify_init1 inotify_rm_watch signalfd signalfd4",
    "time": "alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time times "
    "timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime "
    "timerfd_settime",
    "processes and threads": "arch_prctl execve exit exit_group fork vfork futex set_robust_list set_tid_address rseq "
    "sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min sched_yield "
    "wait4 waitid getrlimit getrusage getpriority restart_syscall",
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
    "for the agent, whose filter below then closes it to the program": "seccomp",
}

# Answered with success, and nothing is done. What a program can write lies in memory, so it has nothing to wait for;
# the kernel would flush the disk of the host, where the image lies. That pages of the image are not needed is no
# program's to say: all containers read them. The value are conditions on arguments.
NO_EFFECT: dict[str, tuple[Condition, ...]] = {
    **dict.fromkeys(("fsync", "fdatasync", "sync", "syncfs"), ()),
    "fadvise64": ((3, LOW_WORD, POSIX_FADV_DONTNEED),),
}
# Calls whose arguments lie in memory, where a filter does not see them; libraries take their older form on ENOSYS.
# Every Node.js asks for a ring at its start and goes on without; there is none, so what uses one (TRIPWIRES) is an
# attack.
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

# Families that programs ask for in good faith (getifaddrs, Node) answer EPERM: unspecified, IPv4, IPv6 and netlink, and
# what the kernel will have beyond AF_MCTP. Every other one is a tripwire.
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
    "clone": "no process may make namespaces of its own",
    "ioctl": "no process may type into a terminal",
    "prctl": "no process may install a filter, with which it could forge what the kernel logs, or have the kernel "
    "compare its memory with that of other sandboxes",
    "madvise": "no process may have the kernel compare its memory with that of other sandboxes",
    "setsockopt": "no process may attach a filter to a socket: it is compiled into memory of the host's kernel that is "
    "counted for no sandbox",
    "fcntl": "locks of open files and leases are counted for no sandbox; lock with flock or F_SETLK",
    **dict.fromkeys(
        ("setpriority", "sched_setaffinity", "sched_setparam", "sched_setscheduler", "ioprio_set", "prlimit64"),
        "no process may change how the agent is scheduled or limited, or a whole group of processes or user",
    ),
    "seccomp": "no process may install a filter, with which it could forge what the kernel logs",
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


def reason(name: str, architecture: str) -> str:
    """The reason why a system call is not allowed, as the part of a sentence after a colon."""
    if architecture != platform.machine():
        return f"it came by the entry for {architecture}, which is closed"
    for why, names in TRIPWIRES.items():
        if name in names.split():
            return why
    return TELLING.get(name, "programs do not need it")


def has_usual_arguments(name: str) -> bool:
    """Whether a logged call was denied for its arguments, while other arguments are allowed."""
    return name in CONDITIONS or name in ATTEMPTS


def _rule(names: list[str], action: str, *conditions: Condition) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": f"SCMP_ACT_{action}"}
    arguments = [
        {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
        for index, mask, value in conditions
    ]
    return {**rule, "args": arguments} if conditions else rule


# --- The logging filter -----------------------------------------------------------------------------------------------

INSTRUCTION = struct.Struct("<HBBI")  # struct sock_filter: code, jump if true, jump if false, constant
# Words, against the constant.
LOAD, AND, JUMP, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x45, 0x06
NUMBER, AUDIT_ARCH, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; on little endian the low word comes first
AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000  # the latter with the error in its low half
RET_KILL_PROCESS = 0x80000000
X32 = 0x40000000  # in the number of a call by that entry of x86-64, for which the filter sees no other architecture
RET_EPERM = RET_ERRNO | errno.EPERM

# (argument, how it is compared, constants, whether a match is what is denied); other names are denied whatever they say
CONDITIONS: dict[str, tuple[int, int, tuple[int, ...], bool]] = {
    "socketpair": (0, JUMP_EQUAL, (AF_UNIX,), False),
    "personality": (0, JUMP_EQUAL, (0, 0xFFFFFFFF), False),
    "clone": (0, JUMP_ANY_BIT, (CLONE_NEW_ANY,), True),
    "ioctl": (1, JUMP_EQUAL, (TIOCSTI, TIOCLINUX), True),
    "prctl": (0, JUMP_EQUAL, (PR_SET_SECCOMP, PR_SET_MEMORY_MERGE), True),
    "madvise": (2, JUMP_EQUAL, (MADV_MERGEABLE,), True),
    "fcntl": (1, JUMP_EQUAL, (*OPEN_DESCRIPTION_LOCKS, F_SETLEASE), True),
    **dict.fromkeys(
        ("sched_setaffinity", "sched_setparam", "sched_setscheduler", "prlimit64"), (0, JUMP_EQUAL, (AGENT,), True)
    ),
}

# The same for what is denied if all conditions in one of the alternatives hold. ``which`` of setpriority is a process,
# a group or a user, and that of ioprio_set the same from 1 on; the caller's own (0) group and user have the agent too.
ATTEMPTS: dict[str, tuple[tuple[Condition, ...], ...]] = {
    "setsockopt": tuple(((1, LOW_WORD, SOL_SOCKET), (2, LOW_WORD, option)) for option in SOCKET_FILTERS),
    "setpriority": (((1, LOW_WORD, AGENT),), ((0, LOW_WORD, 1),), ((0, LOW_WORD, 2),)),
    "ioprio_set": (((1, LOW_WORD, AGENT),), ((0, LOW_WORD, 2),), ((0, LOW_WORD, 3),)),
}

# Sockets of which the log says nothing, whether they can be made or not: Unix sockets, and those by which programs look
# for the machine's interfaces. These are NETLINK_ROUTE's (getifaddrs, getaddrinfo), which reaches no network, and one
# that is not to be closed on exec, as libuuid and old C programs make it for an ioctl. Runtimes and resolvers that want
# to send a datagram close theirs, so they are told of; a C program that does not is denied all the same, in silence.
SILENT_SOCKETS: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((0, LOW_WORD, AF_UNIX),),
    ((0, LOW_WORD, AF_NETLINK), (2, LOW_WORD, 0)),
    ((0, LOW_WORD, AF_INET), (1, LOW_WORD, SOCK_DGRAM), (2, LOW_WORD, 0)),
)


@cache
def log_filter(architecture: str, loopback: bool = False) -> bytes:
    """A classic BPF program that answers EPERM to the calls of ``TELLING``, except TCP and UDP sockets with
    ``loopback``.

    The agent installs it before it makes the program's process, with SECCOMP_FILTER_FLAG_LOG. Of filters with the same
    answer the kernel uses the latest and its flag, so it writes an audit record (type 1326, ``sig=0``) for denials that
    the engine's filter does not log. Apart from ``seccomp`` the filter denies only calls that the container's filter
    denies too. A call by another entry kills the process: an engine's filter kills only the calling thread, so that a
    program with several threads would hang, or go on.
    """
    ask = INSTRUCTION.pack
    program = [*native(architecture), ask(LOAD, 0, 0, NUMBER)]
    if architecture == "x86_64":
        program += [ask(JUMP_AT_LEAST, 0, 1, X32), ask(RETURN, 0, 0, RET_KILL_PROCESS)]
    for name in TELLING:
        number = number_of(name, architecture)
        if number is None:
            continue
        body = [ask(RETURN, 0, 0, RET_EPERM)]
        if name in CONDITIONS:
            argument, compare, constants, denied = CONDITIONS[name]
            answers = (RET_ALLOW, RET_EPERM) if denied else (RET_EPERM, RET_ALLOW)
            # A match skips the tests that are left, and the first answer.
            tests = [ask(compare, len(constants) - at, 0, constant) for at, constant in enumerate(constants)]
            body = [ask(LOAD, 0, 0, ARGUMENTS + 8 * argument), *tests, *(ask(RETURN, 0, 0, one) for one in answers)]
        elif name == "socket":
            silent = (*SILENT_SOCKETS, *LOOPBACK_SOCKETS) if loopback else SILENT_SOCKETS
            body = [*answered(silent, RET_ALLOW), *body]
        elif name in ATTEMPTS:
            body = [*answered(ATTEMPTS[name], RET_EPERM), ask(RETURN, 0, 0, RET_ALLOW)]
        program += [ask(JUMP_EQUAL, 0, len(body), number), *body]
    return b"".join([*program, ask(RETURN, 0, 0, RET_ALLOW)])


def native(architecture: str) -> list[bytes]:
    """Kill the process for calls by another entry: the container's filter kills only the thread."""
    ask = INSTRUCTION.pack
    load, compare = ask(LOAD, 0, 0, AUDIT_ARCH), ask(JUMP_EQUAL, 1, 0, AUDIT_ARCHITECTURES[architecture])
    return [load, compare, ask(RETURN, 0, 0, RET_KILL_PROCESS)]


def answered(alternatives: tuple[tuple[Condition, ...], ...], answer: int) -> Iterator[bytes]:
    """Return the answer for a call that satisfies all conditions of one of the alternatives."""
    ask = INSTRUCTION.pack
    for conditions in alternatives:
        for at, (argument, mask, value) in enumerate(conditions, 1):
            yield ask(LOAD, 0, 0, ARGUMENTS + 8 * argument)
            yield ask(AND, 0, 0, mask)
            yield ask(JUMP_EQUAL, 0, 3 * (len(conditions) - at) + 1, value)  # past the other ones and the answer
        yield ask(RETURN, 0, 0, answer)
