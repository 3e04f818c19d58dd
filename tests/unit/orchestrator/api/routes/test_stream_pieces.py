"""A live stream's events go out many small ones at a time, and never much at once."""

from __future__ import annotations

from orchestrator.api.routes.streams import PIECE_BYTES, pieces, sse, until_done
from orchestrator.models.stream import Entry


def test_small_events_are_batched_and_large_events_sent_alone() -> None:
    small = [Entry(f"1-{n}", "stdout", b"line\n", 1) for n in range(100)]
    large = [Entry(f"2-{n}", "stdout", b"\0" * PIECE_BYTES, 1) for n in range(3)]
    sent = list(pieces([*small, *large]))
    assert b"".join(sent) == b"".join(map(sse, [*small, *large]))
    assert [piece.count(b"event: ") for piece in sent] == [101, 1, 1]
    assert list(pieces([])) == []


def test_stream_sends_nothing_behind_the_end() -> None:
    types = ("stdout", "state", "done", "security")
    entries = [Entry(f"1-{n}", type, b"{}", 1) for n, type in enumerate(types)]
    assert [entry.type for entry in until_done(entries)] == ["stdout", "state", "done"]
    assert [entry.type for entry in until_done(entries[:2])] == ["stdout", "state"]
