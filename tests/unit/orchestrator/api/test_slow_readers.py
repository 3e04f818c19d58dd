"""Answers up to 2 MiB are sent from memory, and stored on disk if their reader is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.types import Message

from orchestrator.api import middleware
from orchestrator.api.door.answers import PIECE_BYTES, STORED_BYTES
from orchestrator.api.door.uploads import Traffic
from orchestrator.settings import Settings

BODY = b"".join(number.to_bytes(4) for number in range(STORED_BYTES // 4))
STALLED_AFTER = 3 * PIECE_BYTES


class Reader:
    """Takes an answer; a slow reader stops until it is released."""

    def __init__(self, *, slow: bool) -> None:
        self.taken, self.ended = b"", False
        self._released, self._stalls_after = asyncio.Event(), STALLED_AFTER if slow else len(BODY) + 1

    async def send(self, message: Message) -> None:
        """As the server has it: wait for the reader, then write."""
        if len(self.taken) >= self._stalls_after:
            await self._released.wait()
        assert not self.ended
        self.taken += message.get("body", b"")
        self.ended = message["type"] == "http.response.body" and not message.get("more_body", False)

    def release(self) -> None:
        self._released.set()


async def answered(path: Path, *, slow: bool, sent: bytes = BODY) -> tuple[bool, Reader]:
    """Send an answer. Returns whether the disk has a part of it when its route has ended, and the reader."""
    settings, reader = Settings(blob_dir=path), Reader(slow=slow)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "headers": [], "state": {}}
    body = middleware._Bounded(receive, scope, settings)
    answer = middleware._Answer(reader.send, body, {}, scope, Traffic(settings), headers_only=False)
    await answer.send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.wait_for(answer.send({"type": "http.response.body", "body": sent}), 60)  # the route ends
    is_stored = answer._file is not None
    assert reader.ended != is_stored
    reader.release()
    await answer.send_stored()
    answer.close()
    return is_stored, reader


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], tuple[bool, Reader]]:
    monkeypatch.setattr(middleware, "SLOW_SECONDS", 0.05)
    return lambda slow: asyncio.run(answered(tmp_path, slow=slow))


def test_answer_to_a_slow_reader_leaves_memory(run: Callable[[bool], tuple[bool, Reader]]) -> None:
    is_stored, reader = run(True)
    assert is_stored
    assert (reader.taken, reader.ended) == (BODY, True)


def test_answer_to_a_fast_reader_is_sent_from_memory(
    run: Callable[[bool], tuple[bool, Reader]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "SLOW_SECONDS", 600)
    is_stored, reader = run(False)
    assert not is_stored
    assert (reader.taken, reader.ended) == (BODY, True)


def test_large_answer_is_stored_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "SLOW_SECONDS", 600)
    is_stored, reader = asyncio.run(answered(tmp_path, slow=True, sent=BODY + b"x"))
    assert is_stored
    assert (reader.taken, reader.ended) == (BODY + b"x", True)
