"""The command's standard input: reading, streaming, and retries."""

from __future__ import annotations

import os
import pty
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mayfly import MayflyError
from mayfly.errors import refused
from orchestrator.cli.commands.executions.feeding import HINT, HINT_SECONDS, Feeding, LiveInput, all_of, is_fed, opened
from tests.harness import eventually


class Api:
    """The part of a client that :class:`Feeding` uses; keeps the bytes as the API does."""

    def __init__(self) -> None:
        self.data, self.ended, self.cancelled = b"", False, False
        self.refusals: list[MayflyError] = []

    def append_stdin(self, id: str, data: bytes, offset: int, *, end: bool = False) -> dict[str, Any]:
        assert offset == len(self.data)
        if self.refusals:
            raise self.refusals.pop(0)
        self.data += data
        self.ended = self.ended or end
        return {}

    def cancel(self, id: str) -> dict[str, Any]:
        self.cancelled = True
        return {}


def refusal(code: str, status: int) -> MayflyError:
    return refused("", status, {"code": code, "detail": "no"}, None, None)


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    """Both ends of a pipe; what is closed on the way is -1."""
    ends = list(os.pipe())
    yield ends
    for end in ends:
        if end >= 0:
            os.close(end)


def close(pipe: list[int]) -> None:
    os.close(pipe[1])
    pipe[1] = -1


def feeding(api: Api, live: LiveInput | None) -> Feeding:
    return Feeding(api, "id", live)  # type: ignore[arg-type]


def test_ended_pipe_is_sent_whole(pipe: list[int]) -> None:
    os.write(pipe[1], b"\x00\xffab")
    close(pipe)
    assert opened(pipe[0]) == (pipe[0], b"\x00\xffab", True)


def test_an_open_pipe_is_read_without_waiting(pipe: list[int]) -> None:
    assert opened(pipe[0]) == (pipe[0], b"", False)  # a read that waits never ends
    os.write(pipe[1], b"a")
    assert opened(pipe[0]) == (pipe[0], b"a", False)


def test_file_on_standard_input_is_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        assert opened(descriptor) == (descriptor, b"x" * 3_000_000, True)
    finally:
        os.close(descriptor)


def test_a_terminal_feeds_only_in_the_foreground() -> None:
    ours, theirs = pty.openpty()
    try:
        assert not is_fed(theirs)
        assert not is_fed(theirs, terminal=True)  # not the terminal that this process belongs to
    finally:
        os.close(ours)
        os.close(theirs)


def test_bytes_are_forwarded_as_they_arrive(pipe: list[int]) -> None:
    api = Api()
    with feeding(api, LiveInput(pipe[0], b"begun ", False)):
        eventually(lambda: api.data == b"begun ", "the first bytes were sent")
        os.write(pipe[1], b"one")
        eventually(lambda: api.data == b"begun one", "the later bytes were sent")
        assert not api.ended
        close(pipe)
        eventually(lambda: api.ended, "the end of input was sent")


def test_the_end_does_not_wait_for_an_open_pipe(pipe: list[int]) -> None:
    api = Api()
    with feeding(api, LiveInput(pipe[0], b"x", False)):
        eventually(lambda: api.data == b"x", "the first bytes were sent")
    # A thread that waits for the pipe would be left when the bound on its end is over.
    assert not any(thread.name == "stdin" for thread in threading.enumerate())


def test_input_refused_for_load_or_outage_is_sent_again(pipe: list[int]) -> None:
    api = Api()
    api.refusals = [refusal("stdin_full", 429), refusal("store_unavailable", 503), refusal("rate_limited", 429)]
    with feeding(api, LiveInput(pipe[0], b"x" * 100_000, False)):
        eventually(lambda: len(api.data) == 100_000, "every byte was sent")
    assert not api.cancelled


def test_feeding_stops_silently_when_its_execution_ended(pipe: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    api = Api()
    api.refusals = [refusal("already_finished", 409)]
    with feeding(api, LiveInput(pipe[0], b"x", False)):
        eventually(lambda: not api.refusals, "the chunk was sent")
    assert (capsys.readouterr().err, api.cancelled) == ("", False)


def test_too_much_cancels_the_execution(pipe: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    api = Api()
    api.refusals = [refusal("payload_too_large", 413)]
    with feeding(api, LiveInput(pipe[0], b"x", False)):
        eventually(lambda: api.cancelled, "the execution is cancelled")
    assert "standard input: no" in capsys.readouterr().err


@pytest.mark.parametrize("begun", [b"", b"x"], ids=["silent", "speaking"])
def test_a_silent_pipe_is_named(pipe: list[int], capsys: pytest.CaptureFixture[str], begun: bytes) -> None:
    printed = ""

    def received() -> bool:
        nonlocal printed
        printed += capsys.readouterr().err
        return HINT in printed

    began = time.monotonic()
    with feeding(Api(), LiveInput(pipe[0], begun, False)):
        if not begun:
            eventually(received, "the hint is printed")
            assert "--no-stdin" in printed and HINT_SECONDS < 2
        else:
            eventually(lambda: time.monotonic() - began > 1.3, "more time than the hint needs has passed")
    assert received() == (not begun)


def test_hint_is_printed_when_stdin_is_read_to_its_end(pipe: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    printed = []

    def complain(text: str) -> None:
        printed.append(text)
        close(pipe)

    monkeypatch.setattr("orchestrator.cli.commands.executions.feeding.complain", complain)
    assert all_of(pipe[0]) == b""
    assert printed == [HINT]
