"""Writes bytes that are no text: every byte value, cut and overlong UTF-8, NULs, pseudo-random blocks."""

import os
import struct
import sys
import zlib


def noise(seed, count):
    """xorshift32, four bytes a step, big endian."""
    out = bytearray()
    while len(out) < count:
        seed ^= seed << 13 & 0xFFFFFFFF
        seed ^= seed >> 17
        seed ^= seed << 5 & 0xFFFFFFFF
        out += struct.pack(">I", seed)
    return bytes(out[:count])


def main():
    parts = [
        bytes(range(256)),
        b"\r\n\r\n\n\r\x00\x1a\x04",
        "é€𝄞".encode()[:-1],
        b"\xc0\xaf\xed\xa0\x80\xff\xfe",
        noise(2463534242, 200_000),
        zlib.compress(b"compressed " * 1000, 9),
        "last €".encode("utf-16"),
    ]
    out = sys.stdout.buffer
    for part in parts:
        out.write(struct.pack("<I", len(part)))
        out.write(part)
    out.flush()
    os.write(2, b"\x80\x00error\xff")
    os.write(1, b"\xf0\x9f")


main()
