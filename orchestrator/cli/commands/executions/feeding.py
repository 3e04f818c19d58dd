"""The command's own standard input: sent with the submission if it is complete, otherwise streamed while the program
runs.

The content of an ended pipe is sent with the submission. A thread reads any other pipe, and a terminal; an interrupt
and the program's end do not wait for that thread.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from types import TracebackType
from typing import NamedTuple, Self

import typer

from mayfly import Client, MayflyError
from mayfly.errors import PASSING
from orchestrator.cli.console import complain

MAX_STDIN_BYTES = 64 * 2**20
BEGUN_BYTES = 2**20  # read at most before the program is submitted
CHUNK_BYTES = 64 * 1024
HINT_SECONDS = 1.0
PAUSE_SECONDS = 0.2
CLOSE_SECONDS = 1.0
HINT = "waiting for standard input (the pipe is open and empty); --no-stdin runs the program without it"


class LiveInput(NamedTuple):
    """A descriptor, the bytes read so far, and whether they are complete."""

    descriptor: int
    begun: bytes
    ended: bool


def is_fed(descriptor: int, *, terminal: bool = False) -> bool:
    """Whether a process or a file feeds this descriptor, or with ``terminal`` the terminal of this command.

    False for ``/dev/null``, and for a terminal that would stop this command for reading in the background.
    """
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISCHR(mode):
            return terminal and os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def opened(descriptor: int) -> LiveInput:
    """The bytes that can be read without waiting: a whole file, or the current content of a pipe."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return LiveInput(descriptor, all_of(descriptor), True)
    begun = bytearray()
    while len(begun) < BEGUN_BYTES and not os.isatty(descriptor) and _readable(descriptor, 0.0):
        data = os.read(descriptor, CHUNK_BYTES)
        if not data:
            return LiveInput(descriptor, bytes(begun), True)
        begun += data
    return LiveInput(descriptor, bytes(begun), False)


def all_of(descriptor: int) -> bytes:
    """All bytes until the end; prints a hint while no input arrives. Raises ``typer.BadParameter``."""
    found = bytearray()
    if not os.isatty(descriptor) and not _readable(descriptor, HINT_SECONDS):
        complain(HINT)
    while data := os.read(descriptor, 2**20):
        found += data
        if len(found) > MAX_STDIN_BYTES:
            raise typer.BadParameter("standard input is too large; give it as a file with --file")
    return bytes(found)


class Feeding:
    """A context that streams a :class:`LiveInput` to an execution; with ``None`` it does nothing."""

    def __init__(self, client: Client, id: str, live: LiveInput | None) -> None:
        self._client, self._id, self._live = client, id, live
        self._over = threading.Event()
        self._sent = 0
        self._thread = threading.Thread(target=self._run, args=[live], name="stdin", daemon=True)
        self._wakeup, self._waker = os.pipe()

    def __enter__(self) -> Self:
        if self._live:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        os.close(self._waker)
        if self._live:
            self._thread.join(CLOSE_SECONDS)

    def _run(self, live: LiveInput) -> None:
        descriptor, data, _ = live
        try:
            if data:
                self._pass_on(data, end=False)
            elif not os.isatty(descriptor) and not _readable(descriptor, HINT_SECONDS, self._wakeup):
                if self._over.is_set():
                    return
                complain(HINT)
            while not self._over.is_set():
                if _readable(descriptor, None, self._wakeup):
                    data = os.read(descriptor, CHUNK_BYTES)
                    self._pass_on(data, end=not data)
                    if not data:
                        return
        except MayflyError as refused:
            if not self._over.is_set() and refused.code not in ("already_finished", "not_found"):
                complain(f"standard input: {refused.detail}")
                self._cancel()

    def _pass_on(self, data: bytes, *, end: bool) -> None:
        """Send bytes in chunks, each until it is accepted or the program has ended."""
        view = memoryview(data)
        while not self._over.is_set():
            chunk = bytes(view[:CHUNK_BYTES])
            try:
                self._client.append_stdin(self._id, chunk, self._sent, end=end and len(chunk) == len(view))
            except PASSING:
                self._over.wait(PAUSE_SECONDS)
                continue
            self._sent += len(chunk)
            view = view[len(chunk) :]
            if not view:
                return

    def _cancel(self) -> None:
        """Cancel the execution, since its result would be wrong without its complete input."""
        try:
            self._client.cancel(self._id)
        except MayflyError as refused:
            if refused.code != "already_finished":
                complain(f"the execution could not be cancelled: {refused.detail}")


def _readable(descriptor: int, seconds: float | None, wakeup: int | None = None) -> bool:
    """Whether bytes, or the end, can be read within the given seconds (``None``: without a time-out).

    Closing the other end of ``wakeup`` ends the wait.
    """
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    if wakeup is not None:
        poller.register(wakeup, select.POLLIN)
    ready = poller.poll(None if seconds is None else 1000 * seconds)
    return any(found == descriptor for found, _ in ready)
