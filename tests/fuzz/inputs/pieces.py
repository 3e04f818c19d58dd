"""Decodes a fuzzer's bytes into a target's input: any bytes are valid, and small changes stay small.

Coverage does not guide a fuzzer through JSON, which is read by a parser in C. So it may also choose, byte by byte, from
names that readers look for and values that they may stumble over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

HEAD = struct.Struct(">BH")


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The pairs; the last payload may be shorter than its length field."""
    while len(data) >= HEAD.size:
        number, length = HEAD.unpack_from(data)
        yield number, data[HEAD.size : HEAD.size + length]
        data = data[HEAD.size + length :]


def join(pairs: Iterable[tuple[int, bytes]]) -> bytes:
    """The bytes that :func:`split` makes those pairs of."""
    return b"".join(HEAD.pack(number, len(payload)) + payload for number, payload in pairs)


NAMES = (
    b"path", b"size", b"why", b"exit_code", b"wall_seconds", b"signal", b"stopped", b"disk_full", b"paths",
)  # fmt: skip
VALUES = (
    b"0", b"1", b"3", b"-1", b"0.5", b"1e999", b"-0.0", b"NaN", b"Infinity", b"-Infinity", b"9" * 400, b"9" * 5000,
    b"null", b"true", b"[]", b"{}", b'""', b'"a"', b'"a/b.png"', b'"../a"', b'"/etc/a"', b'"."', b'"a/"', b'"a\\u0000"',
    b'"\\ud800"', b'"\\ud83d\\ude00"', b'"%s"' % (b"a" * 2000), b'"data:text/html,a"', b'"data:\\u00fc/a;a,a"',
    b'"wall"', b'"cpu"', b'["/work", "/tmp"]', b'["\\ud800"]', b'[["/tmp"], {}, null, 1]', b"[%s1]" % (b"0," * 500),
    b"[" * 500 + b"]" * 500, b'{"a": [NaN]}',
)  # fmt: skip


def chosen(payload: bytes) -> bytes:
    """A JSON object's text: each two bytes choose a member."""
    members = (
        b'"%s": %s' % (NAMES[name % len(NAMES)], VALUES[value % len(VALUES)])
        for name, value in zip(payload[::2], payload[1::2], strict=False)
    )
    return b"{%s}" % b", ".join(members)


def choice(**members: bytes) -> bytes:
    """The bytes that choose those members."""
    return b"".join(bytes((NAMES.index(name.encode()), VALUES.index(value))) for name, value in members.items())
