"""The line of a program's calls of tools: its bytes parsed under bounds, and answers as bytes. Pure, for hostile input.

A message is two lengths of four bytes (big endian), of a header and of a body, both JSON (``sandbox_image/README.md``,
"Calls of tools"). The agent passes the program's bytes on unparsed, so a malformed message is the program's fault, not
a violation of the framing: the host stops reading that line.
"""

from __future__ import annotations

import json
import re
import struct
from typing import Any, NamedTuple

LENGTHS = struct.Struct(">II")
MAX_HEADER_BYTES = 1024
MAX_SEQ = 2**53
SERVER, TOOL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}"), re.compile(r"[A-Za-z0-9_./-]{1,128}")


class Malformed(Exception):
    """The program wrote bytes that are not a call."""


class Request(NamedTuple):
    """A call as the program wrote it. ``body`` is ``None`` if its ``size`` exceeds the bound; it was skipped then.

    ``server`` and ``tool`` are at most a kilobyte of any characters: :attr:`has_valid_names` says whether any tool can
    have them.
    """

    seq: int
    server: str
    tool: str
    body: bytes | None
    size: int

    @property
    def has_valid_names(self) -> bool:
        """Whether a tool can have this name."""
        return SERVER.fullmatch(self.server) is not None and TOOL.fullmatch(self.tool) is not None

    @property
    def name(self) -> str:
        """``server.tool``, for records and events: invalid names in printable form."""
        text = f"{self.server}.{self.tool}"
        return text if self.has_valid_names else ascii(text)[1:65]


class CallStream:
    """Turns the bytes of one program into calls. Not thread-safe.

    Buffers at most ``body_bytes`` of a message, and the bytes fed after that message.
    """

    def __init__(self, body_bytes: int) -> None:
        self._body_bytes = body_bytes
        self._buffer = bytearray()
        self._header: tuple[int, str, str, int] | None = None  # header of the message whose body is being received
        self._skipped = 0  # skipped bytes of that body
        self.consumed_bytes = 0  # of the fed bytes; the others wait for :meth:`next`

    def feed(self, data: bytes) -> None:
        """Add bytes."""
        self._buffer += data

    def next(self) -> Request | None:
        """The next complete call; ``None`` without one. Raises :class:`Malformed`."""
        if self._header is None:
            self._header = self._read_header()
        if self._header is None:
            return None
        seq, server, tool, size = self._header
        if size > self._body_bytes:
            self._skipped += self._consume(size - self._skipped)
            if self._skipped < size:
                return None
            request = Request(seq, server, tool, None, size)
        else:
            if len(self._buffer) < size:
                return None
            request = Request(seq, server, tool, bytes(self._buffer[:size]), size)
            self._consume(size)
        self._header, self._skipped = None, 0
        return request

    @property
    def wanted_bytes(self) -> int:
        """The bound on consumed and buffered bytes together: the bytes that a program may have sent by the end of its
        current call.
        """
        body = 0 if self._header is None else min(self._header[3], self._body_bytes)
        return self.consumed_bytes + body

    def _read_header(self) -> tuple[int, str, str, int] | None:
        if len(self._buffer) < LENGTHS.size:
            return None
        header_bytes, body_bytes = LENGTHS.unpack_from(self._buffer)
        if not 0 < header_bytes <= MAX_HEADER_BYTES:
            raise Malformed(f"a header of {header_bytes} bytes")
        end = LENGTHS.size + header_bytes
        if len(self._buffer) < end:
            return None
        fields = _fields(bytes(self._buffer[LENGTHS.size : end]))
        self._consume(end)
        return (*fields, body_bytes)

    def _consume(self, most: int) -> int:
        count = min(most, len(self._buffer))
        del self._buffer[:count]
        self.consumed_bytes += count
        return count


def answer(seq: int, ok: bool, body: bytes) -> bytes:
    """The bytes of an answer."""
    header = json.dumps({"seq": seq, "ok": ok}).encode()
    return LENGTHS.pack(len(header), len(body)) + header + body


def _fields(header: bytes) -> tuple[int, str, str]:
    try:
        value: Any = json.loads(header)
        seq, server, tool = value["seq"], value["server"], value["tool"]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise Malformed("a header that is no JSON object with seq, server and tool") from error
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq <= MAX_SEQ:
        raise Malformed("a header without a number")
    if not isinstance(server, str) or not isinstance(tool, str):
        raise Malformed("a header without names")
    return seq, server, tool
