"""Parses server-sent events (HTML standard, section 9.2) from the bytes of an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mayfly.steps import ConnectionLost


class ServerSentEvent(NamedTuple):
    """One event. ``id`` is the last received id, of this event or an earlier one."""

    id: str
    event: str
    data: str


class EventParser:
    """Takes an answer's bytes piece by piece. An event that the end cuts off is dropped."""

    def __init__(self, max_event_bytes: int) -> None:
        self._most = max_event_bytes
        self._parts: list[bytes] = []  # of a line that has not ended
        self._part_bytes, self._after_cr = 0, False
        self._data: list[str] = []
        self._id, self._event, self._seen, self._size = "", "", False, 0

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        """Each event whose blank line has come. Raises :class:`ConnectionLost` for one that is too large."""
        for line in self._lines(piece):
            self._size += len(line)
            if self._size > self._most:
                raise self._too_large()
            if line:
                self._take(line)
                continue
            if self._seen:
                yield ServerSentEvent(self._id, self._event or "message", "\n".join(self._data))
            self._event, self._data, self._seen, self._size = "", [], False, 0

    def _take(self, line: bytes) -> None:
        name, _, value = line.decode(errors="replace").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event, self._seen = value, True
        elif name == "data":
            self._data.append(value)
            self._seen = True
        elif name == "id" and "\0" not in value:
            self._id, self._seen = value, True

    def _lines(self, piece: bytes) -> Iterator[bytes]:
        """Lines without their LF, CR or CRLF, independent of the boundaries of the pieces."""
        piece = piece.removeprefix(b"\n") if self._after_cr else piece
        self._after_cr = piece.endswith(b"\r")
        for part in piece.splitlines(keepends=True):
            self._parts.append(part)
            self._part_bytes += len(part)
            if self._part_bytes > self._most:
                raise self._too_large()
            if part.endswith((b"\n", b"\r")):
                yield b"".join(self._parts).rstrip(b"\r\n")
                self._parts, self._part_bytes = [], 0

    def _too_large(self) -> ConnectionLost:
        return ConnectionLost(f"an event of its stream has more than {self._most} bytes")
