"""Server-sent events out of bytes that come in whatever pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from mayfly.sse import EventParser, ServerSentEvent
from mayfly.steps import ConnectionLost

STREAM = (
    b": keep-alive\n\n"
    b'id: 1\nevent: stdout\ndata: {"text": "\xe6\x97\xa5"}\n\n'
    b"data:a\ndata: b\nretry: 5\n\n\n"
    b"event: done\nid: 3\n\n"
    b"data: cut off by the end\n"
)
EVENTS = [
    ServerSentEvent("1", "stdout", '{"text": "日"}'),
    ServerSentEvent("1", "message", "a\nb"),
    ServerSentEvent("3", "done", ""),
]


def server_sent_events(pieces: Iterable[bytes], max_event_bytes: int) -> Iterator[ServerSentEvent]:
    parser = EventParser(max_event_bytes)
    for piece in pieces:
        yield from parser.feed(piece)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_do_not_depend_on_line_ends_or_pieces(end: bytes, size: int) -> None:
    stream = STREAM.replace(b"\n", end)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert list(server_sent_events(pieces, 1000)) == EVENTS


def test_event_is_delivered_before_the_next_bytes_arrive() -> None:
    def pieces() -> object:
        yield b"data: 1\r\n\r"
        raise AssertionError("the event was complete")

    assert next(server_sent_events(pieces(), 1000)).data == "1"  # type: ignore[arg-type]


@pytest.mark.parametrize("endless", [b"data: " + b"x" * 100, b"data: x\n" * 20])
def test_an_event_is_bounded(endless: bytes) -> None:
    assert list(server_sent_events([endless + b"\n\n"], 200))
    with pytest.raises(ConnectionLost, match="more than 90 bytes"):
        list(server_sent_events([endless], 90))
