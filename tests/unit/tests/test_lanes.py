"""Lanes share the machine, except for exclusive tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.lanes import machine

SECONDS = 20.0


class Lane:
    """A test in a lane of its own, which lasts until it is released."""

    def __init__(self, share: Callable[[], AbstractContextManager[None]]) -> None:
        self._share = share
        self.begun, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._share():
            self.begun.set()
            self._end.wait(SECONDS)

    def end(self) -> None:
        self._end.set()
        self._thread.join()


def test_lanes_share_the_machine(tmp_path: Path) -> None:
    lanes = [Lane(lambda: machine(tmp_path, alone=False)) for _ in range(3)]
    assert all(lane.begun.wait(SECONDS) for lane in lanes)
    for lane in lanes:
        lane.end()


@pytest.mark.parametrize("later", [False, True])
def test_exclusive_test_waits_for_running_tests_and_blocks_later_tests(tmp_path: Path, later: bool) -> None:
    before = Lane(lambda: machine(tmp_path, alone=False))
    assert before.begun.wait(SECONDS)
    alone = Lane(lambda: machine(tmp_path, alone=True))
    assert not alone.begun.wait(0.1)
    after = Lane(lambda: machine(tmp_path, alone=later))
    before.end()
    assert alone.begun.wait(SECONDS)
    assert not after.begun.wait(0.1)
    alone.end()
    assert after.begun.wait(SECONDS)
    after.end()
