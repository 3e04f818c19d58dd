"""The framing of the one pipe between a worker and the agent in a sandbox; hostile input assumed.

A frame is one byte of type, four bytes of length (big endian), and the payload. Control payloads are JSON objects, data
payloads raw bytes. ``sandbox_image/agent/supervisor/agent.py`` is the other end; ``sandbox_image/README.md``
describes each frame. :class:`Decoder` buffers at most one frame of at most ``MAX_FRAME_BYTES``, and JSON is parsed
under a bound of its own.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple, NoReturn

import msgspec

from orchestrator.errors import FrameError

HEADER = struct.Struct(">cI")
MAX_FRAME_BYTES = 256 * 1024
MAX_JSON_BYTES = 64 * 1024


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError("a number too large for a float")
    return number


# Refuses what Python parses and cannot encode.
DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


class ToAgent(bytes, Enum):
    """Frames a worker sends."""

    PREPARE = b"P"
    START = b"S"
    STDIN = b"I"
    STOP = b"K"
    BYE = b"B"
    ANSWER_DATA = b"N"
    CALL_ROOM = b"M"


class FromAgent(bytes, Enum):
    """Frames an agent sends."""

    READY = b"R"
    RUNNING = b"G"
    COMPILED = b"C"
    COMPILE_STDOUT = b"c"
    COMPILE_STDERR = b"d"
    STDOUT = b"O"
    STDERR = b"E"
    FILE = b"F"
    FILE_DATA = b"D"
    DISK_FULL = b"W"
    STDIN_TAKEN = b"T"
    REJECTED = b"J"
    RESULT = b"U"
    RESULT_DATA = b"u"
    CALL_DATA = b"Q"
    ANSWER_TAKEN = b"A"
    EXIT = b"X"


class Frame(NamedTuple):
    """One decoded frame."""

    kind: FromAgent
    payload: bytes

    def json(self) -> dict[str, Any]:
        """The payload as a JSON object that can be encoded again. Raises :class:`FrameError` for any other payload.

        The parser is the standard library's, since these bytes are hostile; msgspec only encodes.
        """
        if len(self.payload) > MAX_JSON_BYTES:
            raise FrameError(f"control frame of {len(self.payload)} bytes, bound {MAX_JSON_BYTES}")
        try:
            text = self.payload.decode()
            value = DECODER.decode(text)
            if "\\u" in text:  # could be half of a surrogate pair, which cannot be encoded
                json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise FrameError("control frame is not JSON") from error
        if not isinstance(value, dict):
            raise FrameError("control frame is not a JSON object")
        return value


def encode(kind: ToAgent, payload: bytes | dict[str, Any] = b"") -> bytes:
    """The bytes of one frame to an agent."""
    body = msgspec.json.encode(payload) if isinstance(payload, dict) else payload
    return HEADER.pack(kind.value, len(body)) + body


class Decoder:
    """Turns the sandbox's bytes into frames. Not thread-safe."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """The buffered bytes of an incomplete frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Frames completed by ``data``. Raises :class:`FrameError` on an unknown type or a frame over the bound."""
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            code, length = HEADER.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"frame of {length} bytes, bound {MAX_FRAME_BYTES}")
            try:
                kind = FromAgent(code)
            except ValueError as error:
                raise FrameError(f"unknown frame type {code!r}") from error
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield Frame(kind, payload)
