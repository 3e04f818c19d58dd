"""The agent's filter that makes the kernel log denials, so that they can be reported.

The lists of the container's filter, and the reasons, are in ``seccomp.py``; this module has the arguments for which
calls of those lists are denied.
"""

from __future__ import annotations

from functools import cache

from worker.sandbox.arguments import (
    AF_INET,
    AF_NETLINK,
    AF_UNIX,
    AGENT,
    CLONE_NEW_ANY,
    F_SETLEASE,
    IN_READING,
    LOOPBACK_SOCKETS,
    LOW_WORD,
    MADV_MERGEABLE,
    OPEN_DESCRIPTION_LOCKS,
    PR_SET_MEMORY_MERGE,
    PRIO_USER,
    SOCK_DGRAM,
    SOCKET_FILTERS,
    SOL_SOCKET,
    Condition,
)
from worker.sandbox.bpf import (
    ARGUMENTS,
    INSTRUCTION,
    JUMP_ANY_BIT,
    JUMP_AT_LEAST,
    JUMP_EQUAL,
    LOAD,
    NUMBER,
    RET_ALLOW,
    RET_EPERM,
    RET_KILL_PROCESS,
    RETURN,
    X32,
    answered,
    native,
)
from worker.sandbox.seccomp import TELLING
from worker.sandbox.syscalls import number_of

TIOCLINUX, TIOCSTI = 0x541C, 0x5412
PR_SET_SECCOMP = 22

# (argument, comparison, constants, whether a match is denied); calls that are not listed are denied with any arguments
CONDITIONS: dict[str, tuple[int, int, tuple[int, ...], bool]] = {
    "socketpair": (0, JUMP_EQUAL, (AF_UNIX,), False),
    "personality": (0, JUMP_EQUAL, (0, 0xFFFFFFFF), False),
    "clone": (0, JUMP_ANY_BIT, (CLONE_NEW_ANY,), True),
    "ioctl": (1, JUMP_EQUAL, (TIOCSTI, TIOCLINUX), True),
    "prctl": (0, JUMP_EQUAL, (PR_SET_SECCOMP, PR_SET_MEMORY_MERGE), True),
    "madvise": (2, JUMP_EQUAL, (MADV_MERGEABLE,), True),
    "fcntl": (1, JUMP_EQUAL, (*OPEN_DESCRIPTION_LOCKS, F_SETLEASE), True),
    "inotify_add_watch": (2, JUMP_ANY_BIT, (IN_READING,), True),
    "getpriority": (0, JUMP_EQUAL, (PRIO_USER,), True),
    **dict.fromkeys(
        ("sched_setaffinity", "sched_setparam", "sched_setscheduler", "prlimit64"), (0, JUMP_EQUAL, (AGENT,), True)
    ),
}

# The same for calls that are denied if all conditions of an alternative are true. The argument ``which`` of setpriority
# is a process, a group or a user; ioprio_set counts the same from 1. The caller's own group and user (0) include the
# agent.
ATTEMPTS: dict[str, tuple[tuple[Condition, ...], ...]] = {
    "setsockopt": tuple(((1, LOW_WORD, SOL_SOCKET), (2, LOW_WORD, option)) for option in SOCKET_FILTERS),
    "setpriority": (((1, LOW_WORD, AGENT),), ((0, LOW_WORD, 1),), ((0, LOW_WORD, 2),)),
    "ioprio_set": (((1, LOW_WORD, AGENT),), ((0, LOW_WORD, 2),), ((0, LOW_WORD, 3),)),
}

# Sockets that are not logged, allowed or denied: Unix sockets, and sockets by which programs look for the machine's
# interfaces. The latter are sockets of NETLINK_ROUTE (getifaddrs, getaddrinfo), which reach no network, and datagram
# sockets without close-on-exec, as libuuid and old C programs make them for an ioctl. Runtimes and resolvers set
# close-on-exec on sockets for datagrams, so these are reported; a C program without close-on-exec is denied unreported.
SILENT_SOCKETS: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((0, LOW_WORD, AF_UNIX),),
    ((0, LOW_WORD, AF_NETLINK), (2, LOW_WORD, 0)),
    ((0, LOW_WORD, AF_INET), (1, LOW_WORD, SOCK_DGRAM), (2, LOW_WORD, 0)),
)


@cache
def log_filter(architecture: str, loopback: bool = False) -> bytes:
    """A classic BPF program that answers EPERM to the calls of ``TELLING``, except TCP and UDP sockets with
    ``loopback``.

    The agent installs it before it makes the program's process, with SECCOMP_FILTER_FLAG_LOG. If several filters give
    the same answer, the kernel uses the latest and its flag, so the kernel writes an audit record (type 1326,
    ``sig=0``) for denials that the engine's filter does not log. Apart from ``seccomp`` the filter denies only calls
    that the container's filter denies too. A call by another architecture's entry kills the process: an engine's filter
    kills only the calling thread, so that a program with several threads would hang, or continue.
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
            # A match skips the remaining tests and the first answer.
            tests = [ask(compare, len(constants) - at, 0, constant) for at, constant in enumerate(constants)]
            body = [ask(LOAD, 0, 0, ARGUMENTS + 8 * argument), *tests, *(ask(RETURN, 0, 0, one) for one in answers)]
        elif name == "socket":
            silent = (*SILENT_SOCKETS, *LOOPBACK_SOCKETS) if loopback else SILENT_SOCKETS
            body = [*answered(silent, RET_ALLOW), *body]
        elif name in ATTEMPTS:
            body = [*answered(ATTEMPTS[name], RET_EPERM), ask(RETURN, 0, 0, RET_ALLOW)]
        program += [ask(JUMP_EQUAL, 0, len(body), number), *body]
    return b"".join([*program, ask(RETURN, 0, 0, RET_ALLOW)])


def has_usual_arguments(name: str) -> bool:
    """Whether the call is allowed with other arguments, so that a denial is due to its arguments."""
    return name in CONDITIONS or name in ATTEMPTS
