"""The arguments behind each class of the census whose name does not say them, once more and by themselves.

A number more in a list of ``worker/sandbox/arguments.py``, or a condition less, is another class than the census has
judged, under the same name. Numbers are of x86-64 (``linux/prctl.h``, ``asm-generic/fcntl.h``, …).
"""

from __future__ import annotations

from collections.abc import Iterable

Conditions = frozenset[tuple[tuple[int, int, int], ...]]
INT, LONG = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
O_DIRECT, O_ASYNC, O_EXCL = 0x4000, 0x2000, 0x80
CLONE_NEW = 0x7E020000
TCP = (1, 3, 4, 5, 6, 7, 8, 9, 12, 18, 23, 25)  # neither TCP_ULP (31) nor TCP_CONGESTION (13)
IP, IPV6 = (1, 2, 10, 11, 24), (16, 23, 25, 26, 67)


def one_of(argument: int, numbers: Iterable[int], *more: tuple[int, int, int]) -> Conditions:
    return frozenset((*more, (argument, INT, number)) for number in numbers)


def only(*conditions: tuple[int, int, int]) -> Conditions:
    return frozenset((conditions,))


def but_the_agent(argument: int, *more: tuple[int, int, int]) -> Conditions:
    """0, or a process number of 22 bits with another bit than the lowest."""
    others = ((argument, INT, 0), *((argument, 1 << bit, 1 << bit) for bit in range(1, 22)))
    return frozenset((*more, other) for other in others)


def options(level: int, numbers: Iterable[int]) -> Conditions:
    return one_of(2, numbers, (1, INT, level))


ARGUMENTS: dict[str, Conditions] = {
    "socket AF_UNIX": only((0, INT, 1)),
    "socketpair AF_UNIX": only((0, INT, 1)),
    "clone without new namespaces": only((0, CLONE_NEW, 0)),
    "personality Linux (0)": only((0, INT, 0)),
    "personality query": only((0, INT, INT)),
    "prctl PDEATHSIG, DUMPABLE, NAME, TIMERSLACK": one_of(0, (1, 2, 3, 4, 15, 16, 29, 30)),
    "prctl CHILD_SUBREAPER, NO_NEW_PRIVS, THP_DISABLE": one_of(0, (36, 37, 38, 39, 41, 42)),
    "prctl KEEPCAPS, CAPBSET, CAP_AMBIENT": one_of(0, (7, 8, 23, 24, 47)),
    "prctl GET_SECCOMP": one_of(0, (21,)),
    "setpriority a process other than the agent": but_the_agent(1, (0, INT, 0)),
    "sched_setaffinity a process other than the agent": but_the_agent(0),
    "getpriority of a process or group": one_of(0, (0, 1)),
    "prlimit64 query of the caller's limits": only((0, INT, 0), (2, LONG, 0)),
    "prlimit64 the caller's limits except CORE": one_of(1, {*range(16)} - {4}, (0, INT, 0)),
    "setrlimit the caller's limits except CORE": one_of(0, {*range(16)} - {4}),
    "open without O_DIRECT": only((1, O_DIRECT, 0)),
    "openat without O_DIRECT": only((2, O_DIRECT, 0)),
    "fcntl F_SETFL without O_DIRECT and O_ASYNC": only((1, INT, 4), (2, O_DIRECT | O_ASYNC, 0)),
    "pipe2 without O_NOTIFICATION_PIPE": only((1, O_EXCL, 0)),
    "preadv2 without RWF_DONTCACHE": only((5, INT & ~0x1F, 0)),
    "pwritev2 without RWF_DONTCACHE": only((5, INT & ~0x1F, 0)),
    "mmap without MAP_HUGETLB": only((3, 0x40000, 0)),
    "inotify_add_watch without IN_ACCESS, IN_OPEN and IN_CLOSE_NOWRITE": only((2, 0x1 | 0x10 | 0x20, 0)),
    "socket TCP and UDP": frozenset(
        ((0, INT, family), (1, 0xF, kind), (2, INT, protocol))
        for family in (2, 10)
        for kind, protocol in ((1, 0), (1, 6), (2, 0), (2, 17))
    ),
    **{f"{call} TCP": options(6, TCP) for call in ("setsockopt", "getsockopt")},
    **{f"{call} IP": options(0, IP) for call in ("setsockopt", "getsockopt")},
    **{f"{call} IPv6": options(41, IPV6) for call in ("setsockopt", "getsockopt")},
    "getsockopt TCP query": options(6, (2, 11)),
}
