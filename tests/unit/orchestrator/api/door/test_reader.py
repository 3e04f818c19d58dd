"""Readers of answers that stall, or are slower than the least rate, are cut off; by a clock of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from orchestrator.api.door.reader import ACKNOWLEDGED, Reader
from orchestrator.api.door.table import Bounds

STALL, RATE = 30.0, 1000.0


class Client:
    """The loop, the transport and the socket of a reader, whose clock and whose acknowledgements the test moves."""

    def __init__(self) -> None:
        self.now, self.acknowledged = 0.0, 5_000_000
        self.cuts: list[float] = []
        self._call: tuple[float, Callable[[], None]] | None = None
        bounds = Bounds(1, 1, stall_seconds=STALL, answer_rate=RATE)
        self.reader = Reader(cast(asyncio.AbstractEventLoop, self), cast(asyncio.Transport, self), bounds, self._cut)

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> Client:
        self._call = (self.now + seconds, call)
        return self

    def cancel(self) -> None:
        self._call = None

    def get_extra_info(self, name: str) -> Client:
        return self

    def getsockopt(self, *option: Any) -> bytes:
        return ACKNOWLEDGED.pack(self.acknowledged)

    def _cut(self) -> None:
        self.cuts.append(self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass, and call what is due."""
        end = self.now + seconds
        while self._call is not None and self._call[0] <= end:
            self.now, call = self._call
            self._call = None
            call()
        self.now = end

    def read(self, pause_seconds: float, rate: float, seconds: float) -> None:
        """Read at a rate for some time: the answer waits, and continues after each pause, until the reader is cut."""
        for _ in range(int(seconds / pause_seconds)):
            if self.cuts:
                return
            self.reader.wait()
            for _ in range(10):
                self.advance(pause_seconds / 10)
                self.acknowledged += int(rate * pause_seconds / 10)
            self.reader.resume()


@pytest.fixture
def client() -> Client:
    return Client()


def test_reader_that_stalls_is_cut(client: Client) -> None:
    client.reader.wait()
    client.advance(STALL - 1)
    assert not client.cuts
    client.advance(2)
    assert len(client.cuts) == 1


def test_reader_that_stalls_later_is_cut_as_soon(client: Client) -> None:
    """However much it has read before."""
    client.read(1, 1000 * RATE, 60)
    client.reader.wait()
    client.advance(STALL + 1)
    assert len(client.cuts) == 1


@pytest.mark.parametrize("pause", [0.1, 7.0, STALL - 1, 10 * STALL])
def test_reader_below_the_least_rate_is_cut(client: Client, pause: float) -> None:
    client.read(pause, RATE / 2, 3600)
    assert len(client.cuts) == 1
    assert client.cuts[0] <= 2 * STALL + 2 * pause  # after which it has read as much as half of the time allows


@pytest.mark.parametrize("pause", [0.1, 7.0, STALL - 1])
def test_reader_above_the_least_rate_is_kept(client: Client, pause: float) -> None:
    client.read(pause, 1.1 * RATE, 3600)
    assert not client.cuts


def test_fast_reader_with_long_pauses_is_kept(client: Client) -> None:
    """As on a train: no byte for most of the longest pause, and then as many as the network has."""
    for _ in range(100):
        client.read(STALL - 1, 0, STALL - 1)
        client.read(1, 100 * RATE, 1)
    assert not client.cuts


def test_quiet_stream_is_kept(client: Client) -> None:
    """Time in which nothing is to be read does not count."""
    for _ in range(100):
        client.read(1, 2 * RATE, 1)
        client.advance(3600)
    assert not client.cuts


def test_lost_connection_is_not_cut(client: Client) -> None:
    client.reader.wait()
    client.reader.end()
    client.reader.wait()
    client.advance(3600)
    assert not client.cuts


def test_each_answer_has_a_time_of_its_own(client: Client) -> None:
    client.read(1, 1000 * RATE, 60)
    client.reader.begin()
    client.read(1, RATE / 2, 3600)
    assert len(client.cuts) == 1
    assert client.now < 60 + 2 * STALL + 2, "the answer before has given it no time"
    client.reader.begin()
    client.cuts.clear()
    client.read(1, RATE / 2, STALL)
    assert not client.cuts, "nor taken any"
