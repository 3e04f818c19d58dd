"""The logging filter: interpreted by the kernel's rules for classic BPF, and installed in a real process."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct

import pytest

from worker.sandbox import answers, bpf, seccomp
from worker.sandbox.arguments import ArgumentClass, Condition, classes
from worker.sandbox.log_filter import ATTEMPTS, CONDITIONS, log_filter
from worker.sandbox.syscalls import ARCHITECTURES, name_of, number_of

NOTHING = 0xFFFF_FFFF_FFFF_0000
PR_SET_NO_NEW_PRIVS = 38
SET_MODE_FILTER, FLAG_LOG = 1, 2


def interpret(program: bytes, number: int, architecture: int, arguments: tuple[int, ...]) -> int:
    """The filter's answer to one call; an instruction the filter does not use fails."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *(*arguments, *(0,) * 6)[:6])
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        operation, true, false, constant = code[at]
        at += 1
        if operation == bpf.LOAD:
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif operation == bpf.AND:
            accumulator &= constant
        elif operation == bpf.JUMP:
            at += constant
        elif operation == bpf.JUMP_AT_LEAST:
            at += true if accumulator >= constant else false
        elif operation == bpf.JUMP_EQUAL:
            at += true if accumulator == constant else false
        elif operation == bpf.JUMP_ANY_BIT:
            at += true if accumulator & constant else false
        else:
            assert operation == bpf.RETURN
            return int(constant)


# The arguments of each conditional call, and whether the call is denied.
CASES: list[tuple[str, tuple[int, ...], bool]] = [
    ("socket", (1, 1, 0), False),
    ("socket", (2, 1, 0), True),
    ("socket", (38, 5, 0), True),
    ("socket", (0xFFFF_FFFF_0000_0001, 1, 0), False),  # the kernel looks at the low word, and so does the filter
    ("socket", (0x1_0000_0002, 1, 0), True),
    # How programs look for interfaces, and what is but similar to it
    ("socket", (16, 3, 0), False),
    ("socket", (16, 0x80003, 0), False),
    ("socket", (16, 3, 9), True),  # NETLINK_AUDIT
    ("socket", (2, 2, 0), False),
    ("socket", (2, 0x80002, 0), True),  # a datagram from a runtime or a resolver, closed on exec
    ("socket", (2, 2, 17), True),
    ("socket", (10, 2, 0), True),
    ("socketpair", (1, 1, 0), False),
    ("socketpair", (30, 1, 0), True),
    ("clone", (0x11,), False),
    ("clone", (0x3D0F00,), False),  # a thread
    ("clone", (0x10000011,), True),
    ("clone", (0x00020011,), True),
    ("ioctl", (0, 0x5401), False),
    ("ioctl", (0, 0x5412), True),
    ("ioctl", (0, 0x541C), True),
    ("ioctl", (0, 0x1_0000_5412), True),
    ("prctl", (15,), False),
    ("prctl", (22, 2), True),
    ("personality", (0,), False),
    ("personality", (0xFFFFFFFF,), False),
    ("personality", (0x0040000,), True),
    # Filters of sockets, and the same number for another level: IPV6_V6ONLY
    ("setsockopt", (3, 1, 2), False),
    ("setsockopt", (3, 1, 26), True),
    ("setsockopt", (3, 0x1_0000_0001, 0x1_0000_001A), True),
    ("setsockopt", (3, 1, 50), True),
    ("setsockopt", (3, 1, 52), True),
    ("setsockopt", (3, 41, 26), False),
    # The agent, its group and its user
    ("setpriority", (0, 0, 5), False),
    ("setpriority", (0, 17, 5), False),
    ("setpriority", (0, 1, 19), True),
    ("setpriority", (0, 0x1_0000_0001, 19), True),
    ("setpriority", (1, 0, 19), True),
    ("setpriority", (2, 0, 19), True),
    *(("getpriority", (which, 0), which & 0xFFFFFFFF == 2) for which in (0, 1, 2, 0x1_0000_0002)),
    ("ioprio_set", (1, 0, 0), False),
    ("ioprio_set", (1, 1, 0), True),
    ("ioprio_set", (3, 0, 0), True),
    *((name, (1,), True) for name in ("sched_setaffinity", "sched_setparam", "sched_setscheduler", "prlimit64")),
    *((name, (0,), False) for name in ("sched_setaffinity", "sched_setparam", "sched_setscheduler", "prlimit64")),
    # Locks and memory
    ("fcntl", (3, 6), False),
    ("fcntl", (3, 37), True),
    ("fcntl", (3, 1024), True),
    *(("inotify_add_watch", (3, 0, mask), True) for mask in (0x1, 0x10, 0x20, 0xFFF, 0x1_0000_0022)),
    *(("inotify_add_watch", (3, 0, mask), False) for mask in (0x2, 0xFCE, 0x1_0000_0002)),
    ("madvise", (0, 0, 4), False),
    ("madvise", (0, 0, 12), True),
    ("prctl", (67, 1), True),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_call_is_denied_by_its_arguments(architecture: str) -> None:
    program, native = log_filter(architecture), bpf.AUDIT_ARCHITECTURES[architecture]
    assert {name for name, _, _ in CASES} == {*CONDITIONS, *ATTEMPTS, "socket"}
    for name, arguments, denied in CASES:
        number = number_of(name, architecture)
        assert number is not None
        expected = bpf.RET_EPERM if denied else bpf.RET_ALLOW
        assert interpret(program, number, native, arguments) == expected, (name, arguments)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_other_call_is_logged_or_allowed(architecture: str) -> None:
    program, native = log_filter(architecture), bpf.AUDIT_ARCHITECTURES[architecture]
    denied = {n for n in range(600) if interpret(program, n, native, (NOTHING, NOTHING)) == bpf.RET_EPERM}
    always = {number_of(name, architecture) for name in seccomp.TELLING.keys() - {*CONDITIONS, *ATTEMPTS, "socket"}}
    by_default = {number_of(name, architecture) for name in ("socket", "socketpair", "personality", "clone")}
    assert denied == (always | by_default) - {None}
    killed = {bpf.RET_KILL_PROCESS}
    assert {interpret(program, n, 0x40000003, (NOTHING,)) for n in range(600)} == killed  # i386
    if architecture == "x86_64":
        assert {interpret(program, bpf.X32 + n, native, (NOTHING,)) for n in (*range(600), 2**30)} == killed


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loopback_filter_allows_only_loopback_sockets(architecture: str) -> None:
    program, native = log_filter(architecture, loopback=True), bpf.AUDIT_ARCHITECTURES[architecture]
    number = number_of("socket", architecture) or 0
    for family in range(60):
        for kind in range(6):
            for protocol in (0, 1, 6, 17, 58, 132, 262):
                usual = family in (2, 10) and (kind, protocol) in ((1, 0), (1, 6), (2, 0), (2, 17))
                silent = usual or family == 1 or (family, protocol) == (16, 0)
                for flags in (0, 0x80000, 0x800):
                    found = interpret(program, number, native, (family, kind | flags, protocol))
                    assert found == (bpf.RET_ALLOW if silent else bpf.RET_EPERM), (family, kind, protocol)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_filter_gives_exactly_the_listed_answers(architecture: str) -> None:
    program, native = answers.answer_filter(architecture), bpf.AUDIT_ARCHITECTURES[architecture]
    wanted = {
        number_of(name, architecture): bpf.RET_ERRNO | error
        for error, groups in answers.ANSWERS.items()
        for name in " ".join(groups.values()).split()
    }
    conditional = {number_of(name, architecture) for name in answers.OTHER_ARGUMENTS}
    for number in set(range(1000)) - conditional:
        newer = bpf.RET_ERRNO | errno.ENOSYS if number > answers.HIGHEST_NUMBER else bpf.RET_ALLOW
        assert interpret(program, number, native, ()) == wanted.get(number, newer), number
    assert {interpret(program, n, 0x40000003, ()) for n in range(600)} == {bpf.RET_KILL_PROCESS}  # i386


def example(conditions: tuple[Condition, ...], above: int) -> tuple[int, ...]:
    """Arguments for which the conditions hold, with ``above`` in what the conditions do not look at."""
    arguments = [above] * 6
    for argument, mask, value in conditions:
        arguments[argument] = (arguments[argument] & ~mask) | value
    return tuple(arguments)


def matches(alternatives: list[tuple[Condition, ...]], arguments: tuple[int, ...]) -> bool:
    return any(all(arguments[at] & mask == value for at, mask, value in one) for one in alternatives)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", answers.OTHER_ARGUMENTS)
def test_unusual_arguments_are_refused_and_usual_arguments_allowed(architecture: str, name: str) -> None:
    program, native = answers.answer_filter(architecture), bpf.AUDIT_ARCHITECTURES[architecture]
    number = number_of(name, architecture)
    if number is None:  # open, on aarch64
        assert (architecture, name) == ("aarch64", "open")
        return
    usual = [one.conditions for one in classes(architecture) if name in one.calls]
    usual += [which for call, which in seccomp.NO_EFFECT.items() if call == name]
    refused = 0
    for conditions in usual:
        for above in (0, 2**32):
            assert interpret(program, number, native, example(conditions, above)) == bpf.RET_ALLOW
        for argument, mask, value in conditions:
            for bit in range(32):
                arguments = list(example(conditions, 0))
                arguments[argument] ^= mask & 1 << bit
                other_level = name.endswith("sockopt") and arguments[1] != 1
                let_through = matches(usual, tuple(arguments)) or other_level
                expected = bpf.RET_ALLOW if let_through else bpf.RET_ERRNO | answers.OTHER_ARGUMENTS[name]
                assert interpret(program, number, native, tuple(arguments)) == expected, (arguments, value)
                refused += not let_through
    assert refused


def allowed_classes(architecture: str) -> list[ArgumentClass]:
    """The sockets that are not logged; a network socket is logged where there is no loopback."""
    return [one for one in classes(architecture) if number_of(one.calls[0], architecture) is not None]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_allowed_argument_classes_are_not_logged(architecture: str) -> None:
    program, native = log_filter(architecture), bpf.AUDIT_ARCHITECTURES[architecture]
    for one in allowed_classes(architecture):
        for call in one.calls:
            number = number_of(call, architecture) or 0
            assert interpret(program, number, native, example(one.conditions, 0)) == bpf.RET_ALLOW, one


# Refused with EPERM: programs have no fallback, or have one after any error.
WITHOUT_ANSWER = """
fanotify_mark futimesat get_robust_list get_thread_area ioprio_get mlock mlock2 mlockall mq_getsetattr mq_notify
mq_timedreceive mq_timedsend msgrcv munlock munlockall open_tree_attr quotactl_fd readahead remap_file_pages
sched_rr_get_interval semtimedop set_thread_area shmdt sysfs uprobe uretprobe ustat vhangup
"""


def test_answers_cover_refused_calls_that_are_not_logged() -> None:
    named = [name for groups in answers.ANSWERS.values() for name in " ".join(groups.values()).split()]
    assert len(named) == len(set(named))
    allowed = {
        name for lists in (seccomp.ALLOW, seccomp.TRIPWIRES) for names in lists.values() for name in names.split()
    }
    assert set(named) & (allowed | seccomp.TELLING.keys()) == set()
    for name in named:
        assert any(number_of(name, one) is not None for one in ARCHITECTURES), name
    assert max(n for n in range(1000) for one in ARCHITECTURES if name_of(n, one)) == answers.HIGHEST_NUMBER
    known = {found for one in ARCHITECTURES for n in range(1000) if (found := name_of(n, one))}
    by_arguments = {call for architecture in ARCHITECTURES for one in classes(architecture) for call in one.calls}
    judged = allowed | by_arguments | seccomp.TELLING.keys() | seccomp.NO_EFFECT.keys() | {*seccomp.HIDDEN_ARGUMENTS}
    assert known - judged - answers.OTHER_ARGUMENTS.keys() - set(named) == set(WITHOUT_ANSWER.split())


def test_log_filter_denies_only_its_listed_calls_beyond_the_container_filter() -> None:
    allowed = {name for names in seccomp.ALLOW.values() for name in names.split()}
    assert allowed & seccomp.TELLING.keys() == {"seccomp"}
    tripwires = {name for names in seccomp.TRIPWIRES.values() for name in names.split()}
    assert tripwires & seccomp.TELLING.keys() == set()  # they kill whatever the agent's filter answers, and are logged
    for name in seccomp.TELLING:
        assert any(number_of(name, one) is not None for one in ARCHITECTURES), name


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def installed(program: bytes, calls: list[tuple[str, tuple[int, ...]]]) -> list[int]:
    """The error each call gives in a process under the filter; 0 for none."""
    libc = ctypes.CDLL(None, use_errno=True)
    machine = platform.machine()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        what = Program(len(program) // bpf.INSTRUCTION.size, program)
        number = ctypes.c_long(number_of("seccomp", machine) or -1)
        found = [libc.syscall(number, SET_MODE_FILTER, FLAG_LOG, ctypes.byref(what)) and ctypes.get_errno()]
        for name, arguments in calls:
            wide = (ctypes.c_ulong(one) for one in arguments)
            failed = libc.syscall(ctypes.c_long(number_of(name, machine) or -1), *wide) == -1
            found.append(ctypes.get_errno() if failed else 0)
        os.write(writing, struct.pack(f"{len(found)}i", *found))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    first, *rest = (number for (number,) in struct.iter_unpack("i", data))
    assert first == 0, os.strerror(first)
    return rest


def test_kernel_accepts_log_filter() -> None:
    denied = [("memfd_create", (0, 0)), ("splice", (NOTHING,)), ("seccomp", (2, 0)), ("prctl", (22, 2))]
    denied += [("ioctl", (NOTHING, 0x1_0000_5412)), ("socket", (2, 1, 0)), ("socket", (0x1_0000_0002, 1, 0))]
    passed = [("ioctl", (NOTHING, 0x5401)), ("close", (NOTHING,)), ("socket", (1, 1, 0)), ("prctl", (3,))]
    found = installed(log_filter(platform.machine()), denied + passed)
    assert found == [errno.EPERM] * len(denied) + [errno.EBADF, errno.EBADF, 0, 0]


def test_allow_all_filter_denies_nothing() -> None:
    everything = bpf.INSTRUCTION.pack(bpf.RETURN, 0, 0, bpf.RET_ALLOW)
    assert installed(everything, [("splice", (NOTHING,)), ("socket", (2, 1, 0))])[0] == errno.EBADF
