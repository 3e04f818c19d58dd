"""A sandbox's byte stream before its connection, after its end, and when it is closed while a thread writes to it."""

from __future__ import annotations

import socket
import threading

import pytest

from orchestrator.errors import RuntimeUnavailable
from tests.harness import eventually
from worker.drivers.stream import Stream

MUCH = bytes(64 * 2**20)  # more than any socket buffers


def connected() -> tuple[Stream, socket.socket]:
    ours, theirs = socket.socketpair()
    stream = Stream()
    stream.connect(ours)
    return stream, theirs


def test_a_stream_that_is_not_connected_has_ended() -> None:
    stream = Stream()
    assert stream.receive(0) == b""
    assert not stream.begun(0)
    with pytest.raises(RuntimeUnavailable, match="closed"):
        stream.send(b"x", 1)
    stream.close()


def test_a_closed_stream_has_ended_at_both_ends() -> None:
    stream, theirs = connected()
    stream.send(b"x", 1)
    assert theirs.recv(9) == b"x"
    assert stream.receive(0) is None
    stream.close()
    stream.close()
    assert (stream.receive(1), theirs.recv(9)) == (b"", b"")
    with pytest.raises(RuntimeUnavailable, match="closed"):
        stream.send(b"x", 1)
    theirs.close()


def test_closing_ends_a_thread_that_writes() -> None:
    """Otherwise the thread would write to the next file with its descriptor's number."""
    stream, theirs = connected()
    errors: list[RuntimeUnavailable] = []

    def write() -> None:
        try:
            stream.send(MUCH, 60)
        except RuntimeUnavailable as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    eventually(lambda: len(theirs.recv(1, socket.MSG_PEEK)) == 1, "the thread writes")
    stream.close()
    writer.join(20)
    assert [error.message for error in errors] == ["The sandbox's input is closed."]
    theirs.close()
