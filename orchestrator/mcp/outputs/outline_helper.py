"""The helper process that outlines untrusted JSON documents: exact counts, and elements from the whole document.

The helper reads documents from standard input and writes an answer for each to standard output: a length of eight
bytes, then the bytes. It skips elements without building them (msgspec's ``Raw``), so that 10 MB take some 10 ms for
each level, and builds a bounded number of elements. Skipping costs half a microsecond per element: if the beginning of
a list or object indicates too many elements, there is no outline. Memory is bounded, and the CPU time of each document;
beyond a bound the helper ends. It imports no other module of this package, so that it starts quickly.

An outline is ``[kind, node]``, or null for invalid JSON and for too many elements. A node is ``["exact", value]``,
``["long", bytes]`` (of a string), ``["list", length, positions, nodes]``, ``["object", number of keys, keys, nodes]``.
"""

from __future__ import annotations

import re
import resource
import signal
import struct
import sys
from typing import Any

import msgspec

HEADER = struct.Struct(">Q")
ADDRESS_SPACE_BYTES = 1024 * 2**20
CPU_SECONDS = 0.3  # of one document
BUILT_BYTES = 192 * 1024  # of elements that are in the outline, about
EXACT_BYTES = 4 * 1024  # smaller values are never outlined
MOST_SAMPLED, FEWEST_SAMPLED = 200, 8
FIRST = 6  # elements of a list that the summary shows
MOST_DEPTH = 6
MOST_KEYS, MOST_ITEMS = 60_000, 500_000  # of one object, of one list: each some 30 ms
BEGINNING_BYTES = 32 * 1024
STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{},]', re.DOTALL)  # a string without an end reaches to the end
OPENING, CLOSING = frozenset((b"[", b"{")), frozenset((b"]", b"}"))
Raw = msgspec.Raw
Node = list[Any]


class TooMany(Exception):
    """The document has too many elements for an outline."""


def main() -> None:
    """Answer until standard input ends."""
    for limit, value in (
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(header := source.read(HEADER.size)) == HEADER.size:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # SIGPROF ends this process
        answer = outline(source.read(HEADER.unpack(header)[0]))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sink.write(HEADER.pack(len(answer)) + answer)
        sink.flush()


def outline(data: bytes) -> bytes:
    """The outline of a document, as JSON."""
    try:
        found: Any = ["JSON", node(Raw(data), BUILT_BYTES, 0)]
    except TooMany:
        found = None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        try:
            found = ["JSON lines", of_lines(data)]
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, TooMany):
            found = None
    return msgspec.json.encode(found)


def of_lines(data: bytes) -> Node:
    """The node of JSON lines, as a list. Raises ``msgspec.DecodeError`` and :class:`TooMany`."""
    if data.count(b"\n") > MOST_ITEMS:
        raise TooMany
    return of_list(msgspec.json.Decoder(Raw).decode_lines(data), len(data), BUILT_BYTES, 0)


def node(raw: msgspec.Raw, room: int, depth: int) -> Node:
    """The node of a value: the exact value within ``room`` bytes. Raises as :func:`of_lines`."""
    data = bytes(raw).strip()
    if depth and len(data) <= max(room, EXACT_BYTES):
        return ["exact", raw]
    if data[:1] not in (b"[", b"{"):
        return ["long", len(data)]
    if depth > MOST_DEPTH:
        return ["exact", Raw(b"{}" if data[:1] == b"{" else b"[]")]
    if has_too_many(data):
        raise TooMany
    if data[:1] == b"[":
        return of_list(msgspec.json.decode(data, type=list[Raw]), len(data), room, depth)
    return of_object(msgspec.json.decode(data, type=dict[str, Raw]), len(data), room, depth)


def has_too_many(data: bytes) -> bool:
    """Whether a list or object has too many elements, estimated from its beginning."""
    depth, found = 0, 0
    for mark in STRUCTURE.finditer(data[:BEGINNING_BYTES]):
        depth += (mark[0] in OPENING) - (mark[0] in CLOSING)
        found += depth == 1 and mark[0] == b","
        if depth == 0:  # the end of the document, or of the first of several lines
            return found >= (MOST_ITEMS if data.startswith(b"[") else MOST_KEYS)
    expected = found * len(data) // max(1, min(len(data), BEGINNING_BYTES))
    return expected > (MOST_ITEMS if data.startswith(b"[") else MOST_KEYS)


def of_list(items: list[msgspec.Raw], size: int, room: int, depth: int) -> Node:
    """The node of a list: the first elements, the last, and a sample from between."""
    count = len(items)
    chosen = sampled(count, size, room)
    if chosen < count:
        spread = (number * count // chosen for number in range(chosen - FEWEST_SAMPLED))
        positions = sorted({*range(FIRST), count - 2, count - 1, *spread})
    else:
        positions = list(range(count))
    share = room // max(1, len(positions))
    return ["list", count, positions, [node(items[position], share, depth + 1) for position in positions]]


def of_object(members: dict[str, msgspec.Raw], size: int, room: int, depth: int) -> Node:
    """The node of an object: its first members."""
    keys = list(members)[: sampled(len(members), size, room)]
    share = room // max(1, len(keys))
    return ["object", len(members), keys, [node(members[key], share, depth + 1) for key in keys]]


def sampled(count: int, size: int, room: int) -> int:
    """The number of values in an outline, of ``count`` values with ``size`` bytes together."""
    fitting = room * count // max(1, size)
    return min(count, max(FEWEST_SAMPLED + FIRST, min(MOST_SAMPLED, fitting)))


if __name__ == "__main__":
    main()
