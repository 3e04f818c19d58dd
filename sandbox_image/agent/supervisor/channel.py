"""The agent's pipe to the host: frames and their kinds, and the bytes for a program that frames bring.

``agent.py`` has the theory of operation.
"""

from __future__ import annotations

import _json
import os
import select
import struct
import time

TYPE_CHECKING = False  # of ``typing``, which an agent has no use for and would take a tenth of its start
if TYPE_CHECKING:
    from typing import Any

READY, RUNNING, COMPILED, DISK_FULL, STDIN_TAKEN = b"R", b"G", b"C", b"W", b"T"
CALL_DATA, ANSWER_TAKEN, ANSWER_DATA, CALL_ROOM = b"Q", b"A", b"N", b"M"
FILE, FILE_DATA, REJECTED, EXIT = b"F", b"D", b"J", b"X"
STDOUT, STDERR, COMPILE_STDOUT, COMPILE_STDERR = b"O", b"E", b"c", b"d"
PREPARE, START, STDIN, STOP, BYE = b"P", b"S", b"I", b"K", b"B"
HEADER = struct.Struct(">cI")
MAX_FROM_HOST_BYTES = 64 * 2**20
GATHERED_BYTES = 60 * 1024  # a host that is woken for each small file takes several times as long for them
READ_BYTES = 2**16  # more than that the C library would map for each read, and unmap


class Plain:
    """Plain JSON by the part of ``json`` that is written in C. The other part imports ``re``; both together take a
    fifth of the agent's start.
    """

    strict, object_hook, object_pairs_hook = True, None, None
    parse_float, parse_int, parse_constant = float, int, float


_scan = _json.make_scanner(Plain)  # type: ignore[arg-type]  # it asks for no more than these
_print = _json.make_encoder(None, repr, _json.encode_basestring_ascii, None, ":", ",", False, False, True)


def encode(value: dict[str, Any]) -> bytes:
    """An object as JSON. Objects of other types become strings."""
    return "".join(_print(value, 0)).encode()


def decode(payload: bytes) -> Any:
    """The object of a JSON text without leading spaces."""
    return _scan(payload.decode(), 0)[0]


def frame(kind: bytes, payload: bytes | dict[str, Any] = b"") -> bytes:
    """One frame."""
    body = encode(payload) if isinstance(payload, dict) else payload
    return HEADER.pack(kind, len(body)) + body


class Input:
    """Bytes for a pipe of the program, such as its standard input: the buffered bytes, and whether more will arrive
    (``streamed``).
    """

    def __init__(self, unfed: bytes = b"", streamed: bool = False) -> None:
        self.streamed = self._more = streamed
        self.unfed = memoryview(unfed)
        self.taken_bytes = 0

    @property
    def over(self) -> bool:
        return not self.unfed and not self._more

    def add(self, data: bytes) -> None:
        """Add a frame of the host; an empty frame is the last. The host sends no more than the window allows."""
        if not data:
            self._more = False
        elif self._more:
            self.unfed = memoryview(bytes(self.unfed) + data)

    def take(self, size: int) -> None:
        """Record bytes written to the program's pipe."""
        self.unfed = self.unfed[size:]
        self.taken_bytes += size

    def drop(self) -> None:
        """Drop the input, since no process reads it any more."""
        self.unfed, self._more = self.unfed[:0], False


class HostGone(Exception):
    """The host has closed the pipe."""


class Channel:
    """The framed pipe to the host. Blocks only in poll, so that the end of the host is noticed at once."""

    def __init__(self, source: int = 0, sink: int = 1) -> None:
        self.source, self.sink = source, sink
        self._inbox, self._outbox = bytearray(), bytearray()
        self._gathers = False
        os.set_blocking(sink, False)

    @property
    def busy(self) -> bool:
        """Whether frames wait to be written to fd 1."""
        return bool(self._outbox)

    def put(self, kind: bytes, payload: bytes | dict[str, Any]) -> None:
        """Queue one frame and write as much as fits."""
        self._outbox += frame(kind, payload)
        self.write()

    def gather(self, kind: bytes, payload: bytes | dict[str, Any]) -> None:
        """Queue one frame; write all of them if it is the first, which tells the host of the program's end, or if many
        bytes wait.
        """
        self._outbox += frame(kind, payload)
        if not self._gathers or len(self._outbox) >= GATHERED_BYTES:
            self.drain()
        self._gathers = True

    def send(self, kind: bytes, payload: bytes | dict[str, Any]) -> None:
        """Queue one frame and wait until it is written."""
        self._outbox += frame(kind, payload)
        self.drain()

    def drain(self) -> None:
        """Wait until all frames are written."""
        self.write()
        if not self._outbox:
            return
        poller = select.poll()
        poller.register(self.source, select.POLLIN)
        poller.register(self.sink, select.POLLOUT)
        while self._outbox:
            ready = dict(poller.poll())
            if self.source in ready:
                self.read()
            if self.sink in ready:
                self.write()

    def ready(self) -> bool:
        """Whether the host has sent further bytes."""
        return bool(self._inbox or select.select([self.source], [], [], 0)[0])

    def write(self) -> None:
        """Write as much as fits into the sink."""
        try:
            del self._outbox[: os.write(self.sink, self._outbox)]
        except BlockingIOError:
            pass
        except BrokenPipeError as error:
            raise HostGone from error

    def read(self) -> None:
        """Read the available bytes of a source that polls as ready."""
        try:
            data = os.read(self.source, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise HostGone
        self._inbox += data

    def next(self) -> tuple[bytes, bytes] | None:
        """The next complete frame that has been read."""
        if len(self._inbox) < HEADER.size:
            return None
        kind, length = HEADER.unpack_from(self._inbox)
        if length > MAX_FROM_HOST_BYTES:
            raise ValueError(f"frame of {length} bytes from the host")
        end = HEADER.size + length
        if len(self._inbox) < end:
            return None
        with memoryview(self._inbox) as view:
            payload = bytes(view[HEADER.size : end])
        del self._inbox[:end]
        return kind, payload

    def expect(self, *wanted: bytes) -> tuple[bytes, bytes]:
        """Wait for a frame of one of these kinds; any other kind is an error of the host."""
        while (one := self.next()) is None:
            select.select([self.source], [], [])
            self.read()
        if one[0] not in wanted:
            raise ValueError(f"frame {one[0]!r} from the host, not one of {wanted!r}")
        return one

    def linger(self, seconds: float) -> None:
        """Wait for BYE, the end of the pipe, or the deadline, so that the host has read every sent frame."""
        deadline = time.monotonic() + seconds
        try:
            while select.select([self.source], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.read()
                while one := self.next():
                    if one[0] == BYE:
                        return
        except HostGone:
            pass
