"""Classic BPF, as seccomp runs it: instructions, offsets and answers, and the common part of the agent's two filters.

Every filter begins with :func:`native`. Jumps are relative, and a conditional jump skips at most 255 instructions.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

from worker.sandbox.arguments import Condition

INSTRUCTION = struct.Struct("<HBBI")  # struct sock_filter: code, jump if true, jump if false, constant
# Words, against the constant.
LOAD, AND, JUMP, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x45, 0x06
NUMBER, AUDIT_ARCH, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; little endian, so the low word comes first
AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000  # the latter with the error in its low half
RET_KILL_PROCESS = 0x80000000
X32 = 0x40000000  # set in the numbers of x32 calls, whose architecture the filter sees as x86-64
RET_EPERM = RET_ERRNO | errno.EPERM


def native(architecture: str) -> list[bytes]:
    """Kill the process for calls by another architecture's entry: the container's filter kills only the thread."""
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
            yield ask(JUMP_EQUAL, 0, 3 * (len(conditions) - at) + 1, value)  # skip the remaining checks and the answer
        yield ask(RETURN, 0, 0, answer)
