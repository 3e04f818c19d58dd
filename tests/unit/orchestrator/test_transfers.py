"""Workers ask whether there is room: one thread looks, and a store that does not answer holds up no other."""

from __future__ import annotations

from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import BlobsFull, BlobsUnavailable
from orchestrator.service import transfers
from orchestrator.service.transfers import Transfers
from tests.harness import eventually


class Contents:
    """Answers once it is released."""

    def __init__(self) -> None:
        self.looks, self.released = 0, Event()
        self.error: BlobsUnavailable | None = None

    def check_writable(self) -> None:
        self.looks += 1
        self.released.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
def contents() -> Contents:
    return Contents()


@pytest.fixture
def asked(contents: Contents) -> Transfers:
    store: Any = SimpleNamespace(own_blobs=contents)
    settings: Any = SimpleNamespace(artifact_bytes=1, artifact_files=1)
    return Transfers(store, settings)


def test_store_that_does_not_answer_holds_up_one_thread(contents: Contents, asked: Transfers) -> None:
    first = Thread(target=asked.check_room)
    first.start()
    eventually(lambda: contents.looks == 1, "the first thread looks")
    asked.check_room()
    contents.released.set()
    first.join()
    assert contents.looks == 1


def test_answer_holds_for_a_moment(contents: Contents, asked: Transfers, monkeypatch: pytest.MonkeyPatch) -> None:
    contents.released.set()
    contents.error = BlobsFull()
    for _ in range(3):
        with pytest.raises(BlobsFull):
            asked.check_room()
    assert contents.looks == 1
    contents.error = None
    monkeypatch.setattr(transfers, "ROOM_SECONDS", 0.0)
    asked._look_at = 0.0  # as after that moment
    asked.check_room()
    asked.check_room()
    assert contents.looks == 3
