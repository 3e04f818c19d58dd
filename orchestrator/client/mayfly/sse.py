"""Parses server-sent events (HTML standard, section 9.2) from the bytes of an answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import NamedTuple, Self

from mayfly.errors import NotMayfly
from mayfly.results import EMPTY, Document, Result, ResultBundle
from mayfly.steps import ConnectionLost


class ServerSentEvent(NamedTuple):
    """One event. ``id`` is the last received id, of this event or an earlier one."""

    id: str
    event: str
    data: str


class EventParser:
    """Parses an answer's bytes piece by piece. An incomplete last event is dropped."""

    def __init__(self, max_event_bytes: int) -> None:
        self._most = max_event_bytes
        self._parts: list[bytes] = []  # of an incomplete line
        self._part_bytes, self._after_cr = 0, False
        self._data: list[str] = []
        self._id, self._event, self._seen, self._size = "", "", False, 0

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        """Each event whose blank line has arrived. Raises :class:`ConnectionLost` for an event that is too large."""
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


class ToolCall(Result):
    """A program's call of a tool that its client fulfils. ``arguments`` are the program's choice: treat them as
    hostile. They are ``None`` if they were large and the call has ended. A call fails at ``deadline`` (RFC 3339).
    """

    call_id: str
    name: str
    arguments: Document | None = EMPTY
    deadline: str = ""


class StreamEvent(Result):
    """One event of an execution's stream: ``state``, ``stdout``, ``stderr``, ``result``, ``tool_call``, ``security`` or
    ``done``.

    ``output`` has the exact bytes of ``stdout`` and ``stderr``. :meth:`mayfly.Client.follow` can continue after ``id``.
    """

    id: str
    type: str
    output: bytes = b""

    @property
    def data(self) -> Document:
        """The event's JSON: ``state`` and ``attempt`` of a ``state`` event, for example."""
        return self.document

    @property
    def result(self) -> ResultBundle | None:
        """The result of a ``result`` event."""
        return ResultBundle.read(self.document) if self.type == "result" else None

    @property
    def tool_call(self) -> ToolCall | None:
        """The call of a ``tool_call`` event."""
        return ToolCall.read(self.document) if self.type == "tool_call" else None

    @property
    def text(self) -> str:
        """The output as text. A character cut in two by the end of the event is replaced."""
        return self.output.decode(errors="replace")

    @classmethod
    def parse(cls, id: str, type: str, text: str) -> Self:
        """An event from its name and JSON. Raises :class:`NotMayfly`."""
        output = b""
        try:
            data = json.loads(text) if text else {}
            if type in ("stdout", "stderr"):
                output = base64.b64decode(data["base64"]) if "base64" in data else data["text"].encode()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise NotMayfly(f"A stream has an event {type!r} that no Mayfly API sends: {error!r}.") from error
        return cls.read(data, id=id, type=type, output=output)
