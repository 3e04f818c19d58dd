"""Server-sent events, as the HTML standard (section 9.2) has them, out of the bytes of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from orchestrator.client.connections import ConnectionLost


class ServerSentEvent(NamedTuple):
    """One event. ``id`` is the last that came, with this event or an earlier one."""

    id: str
    event: str
    data: str


def server_sent_events(pieces: Iterable[bytes], max_event_bytes: int) -> Iterator[ServerSentEvent]:
    """Each event once its blank line came; one that the end cuts off is dropped.

    Raises :class:`ConnectionLost` for an event of more than ``max_event_bytes``.
    """
    data: list[str] = []
    id, event, seen, size = "", "", False, 0
    for line in _lines(pieces, max_event_bytes):
        size += len(line)
        if size > max_event_bytes:
            raise _too_large(max_event_bytes)
        if not line:
            if seen:
                yield ServerSentEvent(id, event or "message", "\n".join(data))
            event, data, seen, size = "", [], False, 0
            continue
        name, _, value = line.decode(errors="replace").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event, seen = value, True
        elif name == "data":
            data.append(value)
            seen = True
        elif name == "id" and "\0" not in value:
            id, seen = value, True


def _lines(pieces: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Lines without their ends, which are LF, CR or CRLF, wherever the pieces are cut."""
    parts: list[bytes] = []
    size, after_cr = 0, False
    for piece in pieces:
        piece = piece.removeprefix(b"\n") if after_cr else piece
        after_cr = piece.endswith(b"\r")
        for part in piece.splitlines(keepends=True):
            parts.append(part)
            size += len(part)
            if size > most:
                raise _too_large(most)
            if part.endswith((b"\n", b"\r")):
                yield b"".join(parts).rstrip(b"\r\n")
                parts, size = [], 0


def _too_large(most: int) -> ConnectionLost:
    return ConnectionLost(f"an event of its stream has more than {most} bytes")
