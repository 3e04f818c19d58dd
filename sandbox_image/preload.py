"""A library of one function, for the dynamic loader to load first: ``statx`` without AT_NO_AUTOMOUNT.

GNU ls and stat set that flag in every call. gVisor refuses it in statx(2), and in newfstatat(2) to which libc would
fall back, so that both tools fail there; in a sandbox nothing is mounted by looking at it, so without the flag nothing
differs. No compiler is at hand when images are built, so the few bytes of machine code and the ELF file
around them are written out here. x86-64 only.
"""

from __future__ import annotations

import struct

PATH = "usr/lib/mayfly/statx.so"
LIST = "etc/ld.so.preload"  # what the loader reads, see ld.so(8)
TOOL = "usr/bin/ls"  # an image without it has no use for this
ARCHITECTURE = "amd64"
PAGE = 0x1000
# statx(directory, path, flags, mask, buffer) is syscall(332, directory, path, flags & ~0x800, mask, buffer).
CODE = bytes.fromhex(
    "4d89c1"  # mov r9, r8
    "4189c8"  # mov r8d, ecx
    "89d1"  # mov ecx, edx
    "81e1fff7ffff"  # and ecx, 0xfffff7ff
    "4889f2"  # mov rdx, rsi
    "4863f7"  # movsxd rsi, edi
    "bf4c010000"  # mov edi, 332
    "31c0"  # xor eax, eax
    "ff25"  # jmp [rip + ...], which is libc's syscall()
)
NAMES = b"\0syscall\0statx\0statx.so\0"
SYMBOL, DYNAMIC, RELOCATION = struct.Struct("<IBBHQQ"), struct.Struct("<qQ"), struct.Struct("<QQq")
SEGMENT, HEADER = struct.Struct("<IIQQQQQQ"), struct.Struct("<16sHHIQQQIHHHHHH")
WEAK, GLOBAL, FUNCTION = 2 << 4, 1 << 4, 2
GLOB_DAT = 6


def library() -> bytes:
    """The file. The first page is read and executed, the second, with the table of addresses, also written."""
    head = HEADER.size + 4 * SEGMENT.size
    table = struct.pack("<6I", 1, 3, 2, 0, 0, 1)  # of one bucket: first symbol 2, then 1, then none
    at_symbols = head + len(table)
    at_names = at_symbols + 3 * SYMBOL.size
    at_relocation = -(-(at_names + len(NAMES)) // 8) * 8
    at_code = -(-(at_relocation + RELOCATION.size) // 16) * 16
    dynamic = [
        (4, head), (5, at_names), (6, at_symbols), (10, len(NAMES)), (11, SYMBOL.size), (7, at_relocation),
        (8, RELOCATION.size), (9, RELOCATION.size), (14, NAMES.index(b"statx.so")), (0, 0),
    ]  # fmt: skip
    at_address = PAGE + len(dynamic) * DYNAMIC.size
    code = CODE + struct.pack("<i", at_address - (at_code + len(CODE) + 4))
    symbols = [
        SYMBOL.pack(0, 0, 0, 0, 0, 0),
        SYMBOL.pack(NAMES.index(b"syscall"), WEAK | FUNCTION, 0, 0, 0, 0),
        SYMBOL.pack(NAMES.index(b"statx\0"), GLOBAL | FUNCTION, 0, 1, at_code, len(code)),
    ]
    size = at_address + 8 - PAGE
    segments = [
        (1, 5, 0, 0, 0, at_code + len(code), at_code + len(code), PAGE),  # LOAD, read and execute
        (1, 6, PAGE, PAGE, PAGE, size, size, PAGE),  # LOAD, read and write
        (2, 6, PAGE, PAGE, PAGE, size - 8, size - 8, 8),  # DYNAMIC
        (0x6474E551, 6, 0, 0, 0, 0, 0, 16),  # the stack is not executed
    ]
    magic = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = HEADER.pack(magic, 3, 62, 1, 0, HEADER.size, 0, 0, HEADER.size, SEGMENT.size, len(segments), 64, 0, 0)
    first = b"".join([header, *(SEGMENT.pack(*one) for one in segments), table, *symbols, NAMES]).ljust(
        at_relocation, b"\0"
    )
    first = (first + RELOCATION.pack(at_address, 1 << 32 | GLOB_DAT, 0)).ljust(at_code, b"\0") + code
    return first.ljust(PAGE, b"\0") + b"".join(DYNAMIC.pack(*one) for one in dynamic) + bytes(8)
