"""Error codes of refused system calls other than EPERM, so that libraries and tools fall back to another call.

The container's filter (``seccomp.py``) refuses the calls. The agent adds this filter, whose error code the kernel then
returns; it allows nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import cache

from worker.sandbox import bpf
from worker.sandbox.arguments import SOL_SOCKET, classes
from worker.sandbox.seccomp import NO_EFFECT
from worker.sandbox.syscalls import number_of

# Calls for which libraries and tools have a fallback, which they use after this error only; with EPERM they give up.
# Calls in no group have no fallback, have a fallback after any error (mlock, ioprio_set), or point to an attack.
ANSWERS: dict[int, dict[str, str]] = {
    errno.ENOTSUP: {
        "attributes and ACLs: install, cp, mv and sed accept file systems without them": "setxattr "
        "lsetxattr fsetxattr removexattr lremovexattr fremovexattr",
    },
    errno.ENOSYS: {
        "newer forms of allowed calls, which libc, Go and util-linux try first": "fchmodat2 epoll_ctl_old "
        "epoll_wait_old file_getattr file_setattr getxattrat listxattrat setxattrat removexattrat sched_getattr "
        "sched_setattr",
        "newer ways to wait; libc and Wine have futex": "futex_wait futex_wake futex_requeue futex_waitv",
        "newer lists of mounts; libmount reads /proc": "statmount listmount listns",
        "where memory lies: numpy, OpenBLAS and libnuma do without on a machine of one node": "get_mempolicy "
        "set_mempolicy mbind migrate_pages move_pages set_mempolicy_home_node",
        "the whole host shares the page cache; libunwind and collectors ask msync": "mincore cachestat",
        "barriers across threads; liburcu, .NET and allocators have fences": "membarrier rseq_slice_yield",
        "walls of a program's own; xz, OpenSSH and Chromium do without": "landlock_create_ruleset landlock_add_rule "
        "landlock_restrict_self",
        "sealed memory and shadow stacks; the loader does without": "mseal map_shadow_stack",
        "asynchronous disk access; databases have threads for it": "io_setup io_destroy io_submit io_cancel "
        "io_getevents io_pgetevents",
        "writing back a range of a file; PostgreSQL and RocksDB call fdatasync": "sync_file_range",
        "labels of security modules; their libraries read /proc": "lsm_get_self_attr lsm_set_self_attr "
        "lsm_list_modules",
        "giving back a killed process's memory early": "process_mrelease",
    },
}
# The same for calls that are allowed with some arguments only: other arguments get the error of a kernel, file system
# or device without the feature. Of the socket options only those of SOL_SOCKET; other levels get EPERM.
OTHER_ARGUMENTS: dict[str, int] = {
    "fcntl": errno.EINVAL,
    "ioctl": errno.ENOTTY,
    "madvise": errno.EINVAL,
    "fadvise64": errno.EINVAL,
    "mmap": errno.ENOMEM,
    "open": errno.EINVAL,
    "openat": errno.EINVAL,
    "preadv2": errno.EOPNOTSUPP,
    "pwritev2": errno.EOPNOTSUPP,
    "setsockopt": errno.ENOPROTOOPT,
    "getsockopt": errno.ENOPROTOOPT,
}
HIGHEST_NUMBER = 471  # rseq_slice_yield; later calls of the kernel answer ENOSYS, as in a kernel without them


@cache
def answer_filter(architecture: str) -> bytes:
    """A classic BPF program (an array of struct sock_filter) that returns the error codes of ``ANSWERS``.

    The agent installs it before it makes the program's process: if several filters refuse a call, the kernel uses the
    error of the latest. The filter uses call numbers, so it does not depend on the names known to the engine's
    libseccomp. It grants nothing: the container's filter still decides about every other call.
    """
    ask = bpf.INSTRUCTION.pack
    answers = list(ANSWERS)
    numbers = [
        (number, answer)
        for answer, groups in ANSWERS.items()
        for name in " ".join(groups.values()).split()
        if (number := number_of(name, architecture)) is not None
    ]
    length = len(numbers) + 1  # of the tests, which precede the permission and the answers
    tests = [
        (bpf.JUMP_AT_LEAST, HIGHEST_NUMBER + 1, errno.ENOSYS),
        *((bpf.JUMP_EQUAL, *one) for one in numbers),
    ]
    program = [
        *bpf.native(architecture),
        ask(bpf.LOAD, 0, 0, bpf.NUMBER),
        *_by_arguments(architecture),
        *(
            ask(compare, length - at + answers.index(answer), 0, constant)
            for at, (compare, constant, answer) in enumerate(tests)
        ),
        ask(bpf.RETURN, 0, 0, bpf.RET_ALLOW),
        *(ask(bpf.RETURN, 0, 0, bpf.RET_ERRNO | answer) for answer in answers),
    ]
    return b"".join(program)


def _by_arguments(architecture: str) -> Iterator[bytes]:
    """The tests of the calls of ``OTHER_ARGUMENTS``; each falls through with the call's number loaded."""
    ask = bpf.INSTRUCTION.pack
    allowed = list(classes(architecture))
    for name, error in OTHER_ARGUMENTS.items():
        number = number_of(name, architecture)
        if number is None:
            continue
        usual = [one.conditions for one in allowed if name in one.calls]
        if name.endswith("sockopt"):  # other levels, by their options
            body = [
                ask(bpf.LOAD, 0, 0, bpf.ARGUMENTS + 8),
                ask(bpf.JUMP_EQUAL, 1, 0, SOL_SOCKET),
                ask(bpf.RETURN, 0, 0, bpf.RET_ALLOW),
            ]
            usual = [conditions[1:] for conditions in usual]
        else:
            body = []
            usual += [conditions for which, conditions in NO_EFFECT.items() if which == name]
        body += bpf.answered(tuple(usual), bpf.RET_ALLOW)
        body.append(ask(bpf.RETURN, 0, 0, bpf.RET_ERRNO | error))
        yield ask(bpf.JUMP_EQUAL, 1, 0, number)  # a conditional jump cannot skip the long bodies
        yield ask(bpf.JUMP, 0, 0, len(body))
        yield from body
