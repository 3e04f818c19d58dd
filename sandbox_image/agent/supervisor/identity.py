"""The two users of a sandbox in gVisor: the agent's and the program's.

There a process reaches every other process of its uid, also one that is not dumpable. So the agent has a uid of its
own, and gives the program another (``/run/identity/passwd`` names both). A container engine gives capabilities only to
root, so the agent starts as the root of gVisor's kernel, with four of them. Before it meets any program it is its own
user, and keeps three: to become the program's user (CAP_SETUID, CAP_SETGID), and to end what that user runs (CAP_KILL).
The fourth, CAP_SETPCAP, is needed once, to empty the bounding set. The program's process has none in any set.

The agent's files and pipes for the program are the program's (:class:`AsProgram`): with its effective uid the agent can
be signalled and opened no more than without, and it has that only while no process of the program runs.

In a sandbox without an agent's user, all of this does nothing.
"""

from __future__ import annotations

import os
import resource
import struct

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from sandbox_image.agent.program import interpreter
else:
    import interpreter

PR_SET_KEEPCAPS, PR_CAPBSET_DROP = 8, 24
CAPABILITY_VERSION = 0x20080522
CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP = 5, 6, 7, 8
KEPT = 1 << CAP_KILL | 1 << CAP_SETGID | 1 << CAP_SETUID
NOT_COUNTED = 2  # of the limit on processes

_program = -1  # the uid of its user, where that is not the agent's


def take(accounts: str) -> None:
    """Be the agent's user from now on, if the file of accounts has one. Raises ``OSError``."""
    global _program
    try:
        with open(accounts) as file:
            uids = {fields[0]: int(fields[2]) for fields in (line.split(":") for line in file)}
    except FileNotFoundError:
        return
    if "agent" not in uids:
        return
    for number in (CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP):  # the host sees to it that there is no other
        interpreter.libc("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)
    interpreter.libc("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    become(uids["agent"])
    interpreter.libc("prctl", PR_SET_KEEPCAPS, 0, 0, 0, 0)
    keep(KEPT)
    _program = uids["sandbox"]


def become(uid: int) -> None:
    """Have only this user and its group."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def keep(capabilities: int) -> None:
    """Have just these capabilities, and none that an executed program would inherit. Raises ``PermissionError``."""
    header = struct.pack("Ii", CAPABILITY_VERSION, 0)
    if interpreter.libc("capset", header, struct.pack("6I", capabilities, capabilities, 0, 0, 0, 0)) != 0:
        raise PermissionError("the kernel does not take a set of capabilities")


def become_program() -> None:
    """In a forked child: be the program's user for good, without a capability. Raises ``OSError``."""
    if _program < 0:
        return
    become(_program)
    keep(0)
    # Neither the agent counts here nor this process, which gVisor counts by the uid that it was forked with.
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1] - NOT_COUNTED
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))


class AsProgram:
    """Within, the agent has the program's user: the program owns its new files. May be nested."""

    def __enter__(self) -> None:
        self._before = os.getegid(), os.geteuid()
        if _program >= 0:
            os.setegid(_program)
            os.seteuid(_program)

    def __exit__(self, *_: object) -> None:
        if _program >= 0:
            os.seteuid(self._before[1])
            os.setegid(self._before[0])
