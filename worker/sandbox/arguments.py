"""System calls that are allowed with certain arguments only, by argument class.

A class is a set of calls, a name, and conditions that must all be true of the arguments. ``seccomp.py`` makes a rule of
each class; the census (``tests/hostile/census.py``) has a row for each, with the kernel object that the call creates
and its accounting. Arguments in no class are refused, for one of three reasons: the object would be charged to no
container, all containers of the host would share it, or the call affects the agent.

For arguments of type int, conditions compare only the low word, as the kernel does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

Condition = tuple[int, int, int]  # argument, mask, value: true if (argument & mask) == value
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_STREAM, SOCK_DGRAM, SOCK_TYPE = 1, 2, 0xF  # the last is the mask: above it are SOCK_NONBLOCK and SOCK_CLOEXEC
CLONE_NEW_ANY = 0x7E020000  # every CLONE_NEW* flag
LOW_WORD = 0xFFFFFFFF  # of an argument that the kernel takes as an int, without its upper half
ALL_BITS = 0xFFFFFFFFFFFFFFFF
RLIMIT_CORE, RLIMIT_COUNT = 4, 16
SETTABLE_LIMITS = tuple(number for number in range(RLIMIT_COUNT) if number != RLIMIT_CORE)
SOL_SOCKET = 1
PRIO_PROCESS, PRIO_GROUP, PRIO_USER = 0, 1, 2
AGENT = 1  # the agent's pid in every sandbox
PID_BITS = 22  # of Linux's highest possible pid
F_SETFL, F_SETLEASE = 4, 1024
OPEN_DESCRIPTION_LOCKS = (36, 37, 38)  # F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW
MADV_MERGEABLE, POSIX_FADV_DONTNEED = 12, 4
MAP_HUGETLB = 0x40000
O_ASYNC = 0x2000
O_DIRECT = {"x86_64": 0x4000, "aarch64": 0x10000}
O_NOTIFICATION_PIPE = 0x80  # O_EXCL
IN_READING = 0x31  # IN_ACCESS, IN_CLOSE_NOWRITE and IN_OPEN
RWF_KNOWN = 0x1F  # HIPRI, DSYNC, SYNC, NOWAIT, APPEND; not NOAPPEND, ATOMIC and DONTCACHE

# Options of SOL_SOCKET. Left out are, among others, filters (26, 27, 44, 50 to 52: compiled into memory of the host's
# kernel that no cgroup counts, against one limit for all), time stamps (which switch code of the whole kernel), options
# that need a capability, marks, devices, and zero copy.
SET_AND_GET: dict[str, int] = {
    "SO_REUSEADDR": 2, "SO_DONTROUTE": 5, "SO_BROADCAST": 6, "SO_SNDBUF": 7, "SO_RCVBUF": 8, "SO_KEEPALIVE": 9,
    "SO_OOBINLINE": 10, "SO_LINGER": 13, "SO_REUSEPORT": 15, "SO_PASSCRED": 16, "SO_RCVLOWAT": 18,
    "SO_RCVTIMEO_OLD": 20, "SO_SNDTIMEO_OLD": 21, "SO_RCVTIMEO_NEW": 66, "SO_SNDTIMEO_NEW": 67,
}  # fmt: skip
GET: dict[str, int] = {
    "SO_TYPE": 3, "SO_ERROR": 4, "SO_PRIORITY": 12, "SO_PEERCRED": 17, "SO_SNDLOWAT": 19, "SO_PEERNAME": 28,
    "SO_ACCEPTCONN": 30, "SO_PROTOCOL": 38, "SO_DOMAIN": 39, "SO_PEERGROUPS": 59,
}  # fmt: skip
SOCKET_FILTERS = (26, 27, 44, 50, 51, 52)  # ATTACH, DETACH, LOCK, ATTACH_BPF, ATTACH_REUSEPORT_CBPF and _EBPF

# Left out are, among others, open file description locks, leases, directory notices to a signal, and signals to an
# owner, which may be the agent.
FCNTL: dict[str, int] = {
    "F_DUPFD": 0, "F_GETFD": 1, "F_SETFD": 2, "F_GETFL": 3, "F_GETLK": 5, "F_SETLK": 6, "F_SETLKW": 7, "F_GETOWN": 9,
    "F_GETSIG": 11, "F_GETLEASE": 1025, "F_NOTIFY": 1026, "F_DUPFD_QUERY": 1027, "F_DUPFD_CLOEXEC": 1030,
    "F_SETPIPE_SZ": 1031, "F_GETPIPE_SZ": 1032, "F_GET_SEALS": 1034,
}  # fmt: skip

# Queries of a descriptor or of this sandbox's own network, which create no object. Left out are requests to disks,
# namespaces, devices and watch queues, and those to terminals except the usual queries (which find no terminal).
IOCTL: dict[str, int] = {
    "TCGETS": 0x5401, "TCSETS": 0x5402, "TCSETSW": 0x5403, "TCSETSF": 0x5404, "TIOCGPGRP": 0x540F,
    "TIOCSPGRP": 0x5410, "TIOCGSID": 0x5429, "TIOCOUTQ": 0x5411, "TIOCGWINSZ": 0x5413, "FIONREAD": 0x541B,
    "FIONBIO": 0x5421, "FIONCLEX": 0x5450, "FIOCLEX": 0x5451, "FIOQSIZE": 0x5460, "SIOCATMARK": 0x8905,
    "SIOCGIFNAME": 0x8910, "SIOCGIFCONF": 0x8912, "SIOCGIFFLAGS": 0x8913, "SIOCGIFADDR": 0x8915,
    "SIOCGIFBRDADDR": 0x8919, "SIOCGIFNETMASK": 0x891B, "SIOCGIFMTU": 0x8921, "SIOCGIFHWADDR": 0x8927,
    "SIOCGIFINDEX": 0x8933,
}  # fmt: skip

# Left out are MERGEABLE (which compares pages with those of other containers), COLD and PAGEOUT (the host's disks),
# COLLAPSE, HWPOISON and SOFT_OFFLINE.
MADVISE: dict[str, int] = {
    "MADV_NORMAL": 0, "MADV_RANDOM": 1, "MADV_SEQUENTIAL": 2, "MADV_WILLNEED": 3, "MADV_DONTNEED": 4, "MADV_FREE": 8,
    "MADV_REMOVE": 9, "MADV_DONTFORK": 10, "MADV_DOFORK": 11, "MADV_HUGEPAGE": 14, "MADV_NOHUGEPAGE": 15,
    "MADV_DONTDUMP": 16, "MADV_DODUMP": 17, "MADV_WIPEONFORK": 18, "MADV_KEEPONFORK": 19, "MADV_POPULATE_READ": 22,
    "MADV_POPULATE_WRITE": 23, "MADV_DONTNEED_LOCKED": 24, "MADV_GUARD_INSTALL": 102, "MADV_GUARD_REMOVE": 103,
}  # fmt: skip
FADVISE: dict[str, int] = {
    "NORMAL": 0, "RANDOM": 1, "SEQUENTIAL": 2, "WILLNEED": 3, "NOREUSE": 5,
}  # fmt: skip

# (argument, mask, value) that must all be true. With a loopback programs can also make TCP and UDP sockets, with these
# two protocols only: no raw sockets, no ping, SCTP or MPTCP, and still no netlink (getaddrinfo does without).
LOOPBACK_SOCKETS: tuple[tuple[Condition, ...], ...] = tuple(
    ((0, LOW_WORD, family), (1, SOCK_TYPE, kind), (2, LOW_WORD, protocol))
    for family in (AF_INET, AF_INET6)
    for kind, protocols in ((SOCK_STREAM, (0, 6)), (SOCK_DGRAM, (0, 17)))
    for protocol in protocols
)
# Options of TCP and UDP sockets: a level, and its options. Left out are, among others, TCP_ULP, TCP_CONGESTION,
# multicast and everything of netfilter.
SOCKET_OPTIONS: dict[str, tuple[int, tuple[int, ...]]] = {
    "TCP: NODELAY, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, SYNCNT, LINGER2, DEFER_ACCEPT, QUICKACK, USER_TIMEOUT, "
    "FASTOPEN, NOTSENT_LOWAT": (6, (1, 3, 4, 5, 6, 7, 8, 9, 12, 18, 23, 25)),
    "IP: TOS, TTL, MTU_DISCOVER, RECVERR, BIND_ADDRESS_NO_PORT": (0, (1, 2, 10, 11, 24)),
    "IPv6: UNICAST_HOPS, MTU_DISCOVER, RECVERR, V6ONLY, TCLASS": (41, (16, 23, 25, 26, 67)),
}
GET_ONLY_OPTIONS: dict[str, tuple[int, tuple[int, ...]]] = {"TCP query: MAXSEG, INFO": (6, (2, 11))}

# The permitted requests of prctl; left out are, among others, PR_SET_MM, PR_SET_SECCOMP, system call dispatch, merging
# of memory with that of others, and names of anonymous memory (PR_SET_VMA), which are counted for no container.
PRCTL: dict[str, tuple[int, ...]] = {
    "PDEATHSIG, DUMPABLE, NAME, TIMERSLACK: set and get": (1, 2, 3, 4, 15, 16, 29, 30),
    "CHILD_SUBREAPER, NO_NEW_PRIVS, THP_DISABLE: set and get": (36, 37, 38, 39, 41, 42),
    "KEEPCAPS, CAPBSET, CAP_AMBIENT: giving up capabilities, of which a sandbox has none": (7, 8, 23, 24, 47),
    "GET_SECCOMP": (21,),
}
PR_SET_MEMORY_MERGE = 67


class ArgumentClass(NamedTuple):
    """Calls with arguments that satisfy all conditions. ``name`` is unique among classes of the same call."""

    calls: tuple[str, ...]
    name: str
    conditions: tuple[Condition, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The class's labels in the census: each call with the class name."""
        return tuple(f"{call} {self.name}" for call in self.calls)


def classes(machine: str, loopback: bool = False) -> Iterator[ArgumentClass]:
    """All argument classes."""
    yield from _processes()
    yield from _limits()
    yield from _files(O_DIRECT[machine])
    for calls, level_at, table in _TABLES:
        for name, number in table.items():
            yield _one(calls, name, *level_at, (2 if level_at else _NUMBER_AT[calls], LOW_WORD, number))
    if loopback:
        yield from _network()


_OF_SOCKETS = ((1, LOW_WORD, SOL_SOCKET),)
_TABLES: tuple[tuple[str, tuple[Condition, ...], dict[str, int]], ...] = (
    ("setsockopt getsockopt", _OF_SOCKETS, SET_AND_GET),
    ("getsockopt", _OF_SOCKETS, GET),
    ("fcntl", (), FCNTL),
    ("ioctl", (), IOCTL),
    ("madvise", (), MADVISE),
    ("fadvise64", (), FADVISE),
)
_NUMBER_AT = {"fcntl": 1, "ioctl": 1, "madvise": 2, "fadvise64": 3}  # the argument with the command, option or advice


def _processes() -> Iterator[ArgumentClass]:
    yield _one("socket socketpair", "AF_UNIX", (0, LOW_WORD, AF_UNIX))
    yield _one("clone", "without new namespaces", (0, CLONE_NEW_ANY, 0))
    yield _one("personality", "Linux (0)", (0, LOW_WORD, 0))
    yield _one("personality", "query", (0, LOW_WORD, 0xFFFFFFFF))
    for group, options in PRCTL.items():
        for option in options:
            yield _one("prctl", group.partition(":")[0], (0, LOW_WORD, option))
    # The agent is excluded, by pid, group and user: it has the program's uid, and must end the processes that the
    # program leaves. Programs name themselves by 0 or by their pid, which a filter does not know.
    for others in _not_the_agent(1):
        yield _one("setpriority", "a process other than the agent", (0, LOW_WORD, PRIO_PROCESS), others)
    for others in _not_the_agent(0):
        yield _one("sched_setaffinity", "a process other than the agent", others)
    # For a user, the kernel searches the processes of the whole host, if that user has any: the time shows it.
    for which in (PRIO_PROCESS, PRIO_GROUP):
        yield _one("getpriority", "of a process or group", (0, LOW_WORD, which))


def _limits() -> Iterator[ArgumentClass]:
    """Limits of the calling process only: a program, which shares the agent's uid, could starve the agent by lowering
    its limits.

    The limit on core files is excluded: with 1 the kernel starts no crash handler, with 0 it does.
    """
    yield _one("prlimit64", "query of the caller's limits", (0, LOW_WORD, 0), (2, ALL_BITS, 0))
    for number in SETTABLE_LIMITS:
        yield _one("prlimit64", "the caller's limits except CORE", (0, LOW_WORD, 0), (1, LOW_WORD, number))
        yield _one("setrlimit", "the caller's limits except CORE", (0, LOW_WORD, number))


def _files(direct: int) -> Iterator[ArgumentClass]:
    """``O_DIRECT`` is excluded: it bypasses the page cache, so a program could read the shared disk without bound.

    Pipes of kernel notifications (watch queues) are charged to no sandbox. The files of namespaces (``/proc/self/ns``)
    are the same for the whole host, so a watch for reads would show other sandboxes' accesses.
    """
    yield _one("open", "without O_DIRECT", (1, direct, 0))
    yield _one("openat", "without O_DIRECT", (2, direct, 0))
    yield _one("fcntl", "F_SETFL without O_DIRECT and O_ASYNC", (1, LOW_WORD, F_SETFL), (2, direct | O_ASYNC, 0))
    yield _one("pipe2", "without O_NOTIFICATION_PIPE", (1, O_NOTIFICATION_PIPE, 0))
    yield _one("preadv2 pwritev2", "without RWF_DONTCACHE", (5, LOW_WORD & ~RWF_KNOWN, 0))
    yield _one("mmap", "without MAP_HUGETLB", (3, MAP_HUGETLB, 0))
    yield _one("inotify_add_watch", "without IN_ACCESS, IN_OPEN and IN_CLOSE_NOWRITE", (2, IN_READING, 0))


def _network() -> Iterator[ArgumentClass]:
    for conditions in LOOPBACK_SOCKETS:
        yield _one("socket", "TCP and UDP", *conditions)
    for table, calls in ((SOCKET_OPTIONS, "setsockopt getsockopt"), (GET_ONLY_OPTIONS, "getsockopt")):
        for group, (level, numbers) in table.items():
            for number in numbers:
                yield _one(calls, group.partition(":")[0], (1, LOW_WORD, level), (2, LOW_WORD, number))


def _one(calls: str, name: str, *conditions: Condition) -> ArgumentClass:
    return ArgumentClass(tuple(calls.split()), name, conditions)


def _not_the_agent(argument: int) -> Iterator[Condition]:
    """Conditions that together match every pid except 1: the pid is 0, or has a set bit other than the lowest."""
    yield argument, LOW_WORD, 0
    for bit in range(1, PID_BITS):
        yield argument, 1 << bit, 1 << bit
