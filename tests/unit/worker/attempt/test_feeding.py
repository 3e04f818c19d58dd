"""A worker's sending of standard input, and its checks of the sandbox's acknowledgements."""

from __future__ import annotations

import json
import threading

import pytest

from orchestrator.environments import DEFAULT_LIMITS
from orchestrator.errors import FrameError, RuntimeUnavailable
from orchestrator.store.content.stdin import Piece
from tests.harness import eventually
from worker.agent.conversation import Conversation
from worker.agent.frames import HEADER, Frame, FromAgent
from worker.attempt.feeding import WINDOW_BYTES, Feeder, Whole


class Sandbox:
    """Keeps what is sent; ``takes`` acknowledges all at once."""

    def __init__(self) -> None:
        self.data, self.ended = b"", False
        self.feeder: Feeder | None = None
        self.takes = self.broken = False

    def send(self, frames: bytes, timeout_seconds: float) -> None:
        if self.broken:
            raise RuntimeUnavailable()
        assert not self.ended
        while frames:
            kind, length = HEADER.unpack_from(frames)
            assert kind == b"I"
            self.data += frames[HEADER.size : HEADER.size + length]
            self.ended = self.ended or length == 0
            frames = frames[HEADER.size + length :]
        if self.takes and self.feeder and length:
            self.feeder.acknowledge(taken(len(self.data)))


def taken(count: object) -> Frame:
    return Frame(FromAgent.STDIN_TAKEN, json.dumps({"bytes": count}).encode())


def stopped() -> bool:
    return not any(thread.name == "stdin" for thread in threading.enumerate())


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, WINDOW_BYTES, 1_000_003])
def test_all_arrives_in_order_and_ends(size: int) -> None:
    sandbox, data = Sandbox(), (bytes(range(256)) * (size // 256 + 1))[:size]
    sandbox.takes = True
    feeder = sandbox.feeder = Feeder(Whole(data), sandbox.send)
    feeder.start()
    eventually(lambda: sandbox.ended, "the input has ended")
    assert sandbox.data == data
    eventually(stopped, "the thread ends")


def test_feeder_sends_at_most_a_window_without_acknowledgement() -> None:
    sandbox = Sandbox()
    feeder = Feeder(Whole(b"x" * 10 * WINDOW_BYTES), sandbox.send)
    feeder.start()
    eventually(lambda: len(sandbox.data) == WINDOW_BYTES, "the window is full")
    feeder.acknowledge(taken(1000))
    eventually(lambda: len(sandbox.data) == WINDOW_BYTES + 1000, "acknowledged bytes are replaced")
    for printed in (10, 1000, WINDOW_BYTES + 1001, 10**12):  # less, the same again, or beyond what was sent
        with pytest.raises(FrameError):
            feeder.acknowledge(taken(printed))
    feeder.acknowledge(taken(WINDOW_BYTES + 1000))
    eventually(lambda: len(sandbox.data) == 2 * WINDOW_BYTES + 1000, "one window more was sent")
    feeder.close()
    eventually(stopped, "the thread ends")
    assert (len(sandbox.data), sandbox.ended) == (2 * WINDOW_BYTES + 1000, False)


def test_feeder_sends_new_input_at_once_and_ends_with_a_lost_attempt() -> None:
    class Source:
        pieces: tuple[Piece | None, ...] = (Piece(b"", False),)

        def read(self, offset: int, taken: int, most: int) -> Piece | None:
            return self.pieces[0] if self.pieces[0] is None or not offset else Piece(b"", False)

    source, sandbox = Source(), Sandbox()
    feeder = Feeder(source, sandbox.send)
    feeder.start()
    source.pieces = (Piece(b"late", False),)
    feeder.wake()
    eventually(lambda: sandbox.data == b"late", "the new input is sent")
    source.pieces = (None,)
    feeder.wake()
    eventually(stopped, "the thread ends")
    assert not sandbox.ended


def test_feeding_ends_when_the_sandbox_accepts_no_frame() -> None:
    sandbox = Sandbox()
    sandbox.broken = True
    Feeder(Whole(b"x"), sandbox.send).start()
    eventually(stopped, "the thread ends")


@pytest.mark.parametrize("count", [None, "7", True, 1.5, []])
def test_a_number_is_expected(count: object) -> None:
    with pytest.raises(FrameError):
        Feeder(Whole(b""), Sandbox().send).acknowledge(taken(count))


def test_only_a_running_program_with_streamed_stdin_takes_input() -> None:
    input_taken = Frame(FromAgent.STDIN_TAKEN, b'{"bytes": 1}')

    def talk(feeds: bool, *before: FromAgent) -> Conversation:
        made = Conversation(DEFAULT_LIMITS, "standard", host_counts_cpu=False, compiles=False, feeds=feeds)
        for kind in before:
            made.receive(Frame(kind, b"{}"), 0.0)
        return made

    for refused in (
        talk(False, FromAgent.RUNNING),
        talk(True),
        talk(True, FromAgent.RUNNING, FromAgent.EXIT),
    ):
        with pytest.raises(FrameError):
            refused.receive(input_taken, 0.0)
    talk(True, FromAgent.RUNNING).receive(input_taken, 0.0)
