"""The two users of a sandbox in gVisor: the agent's and the program's.

In gVisor a process reaches every other process of its uid, also a process that is not dumpable. So the agent has a uid
of its own, and gives the program another (``/run/identity/passwd`` names both). A container engine gives capabilities
only to root, so the agent starts as the root of gVisor's kernel, with four capabilities. Before any program runs, the
agent becomes its own user, and keeps three of them: to become the program's user (CAP_SETUID, CAP_SETGID), and to kill
that user's processes (CAP_KILL). The fourth, CAP_SETPCAP, is needed once, to empty the bounding set. The program's
process has no capability in any set.

The agent makes the program's files and pipes with the program's effective uid (:class:`AsProgram`), so that the program
owns them. That uid does not make the agent's process easier to signal or open, and the agent has it only while no
process of the program runs.

In a sandbox without an agent's user, these functions do nothing.
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
    """Become the agent's user for good, if the file of accounts has one. Raises ``OSError``."""
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
    """Become this user, with its group as the only group."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def keep(capabilities: int) -> None:
    """Keep only these capabilities, and none for executed programs. Raises ``PermissionError``."""
    header = struct.pack("Ii", CAPABILITY_VERSION, 0)
    if interpreter.libc("capset", header, struct.pack("6I", capabilities, capabilities, 0, 0, 0, 0)) != 0:
        raise PermissionError("the kernel does not take a set of capabilities")


def become_program() -> None:
    """In a forked child: become the program's user for good, without a capability. Raises ``OSError``."""
    if _program < 0:
        return
    become(_program)
    keep(0)
    # The limit counts neither the agent nor this process, which gVisor counts by the uid at its fork.
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1] - NOT_COUNTED
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))


class AsProgram:
    """A context in which the agent has the program's user, so that the program owns new files. May be nested."""

    def __enter__(self) -> None:
        self._before = os.getegid(), os.geteuid()
        if _program >= 0:
            os.setegid(_program)
            os.seteuid(_program)

    def __exit__(self, *_: object) -> None:
        if _program >= 0:
            os.seteuid(self._before[1])
            os.setegid(self._before[0])
