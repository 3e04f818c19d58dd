"""Streamed standard input: sent to a program while it runs.

A separate thread reads a :class:`Source` and sends STDIN frames, so that neither a slow client nor a program that does
not read delays the session's loop. The agent buffers at most ``WINDOW_BYTES`` for the program; STDIN_TAKEN frames
acknowledge bytes and open the window. Acknowledgements must grow, up to the sent bytes: a false acknowledgement only
fills the memory of its own sandbox, up to the bound of all inputs, and there are at most as many frames as bytes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Protocol

import redis
import structlog

from orchestrator.errors import FrameError, PlatformError, RuntimeUnavailable, StoreUnavailable
from orchestrator.models import Specification
from orchestrator.store import Store
from orchestrator.store.content.stdin import Piece
from orchestrator.store.executions.records import Claim
from orchestrator.store.malformed import report_malformed
from worker.agent.frames import Frame, ToAgent, encode

WINDOW_BYTES = 64 * 1024  # the capacity of the kernel's pipes, also with an idle agent
PIECE_BYTES = 32 * 1024
LOOK_SECONDS = 1.0  # the delay of new bytes whose message was lost
SEND_SECONDS = 2.0
log = structlog.get_logger()


class Source(Protocol):
    """A source of standard input."""

    def read(self, offset: int, taken: int, most: int) -> Piece | None:
        """Up to ``most`` bytes from ``offset`` on, empty if none have arrived; ``None`` after the end.

        ``taken`` is the number of bytes that the program has received.
        """


class Whole:
    """A complete standard input."""

    def __init__(self, data: bytes | mmap) -> None:
        self._data = data

    def read(self, offset: int, taken: int, most: int) -> Piece | None:
        end = offset + most
        return Piece(self._data[offset:end], end >= len(self._data))


class Streamed:
    """A standard input that clients are still sending, as one attempt reads it."""

    def __init__(self, store: Store, claim: Claim) -> None:
        self._stdin, self._claim = store.stdin, claim

    def read(self, offset: int, taken: int, most: int) -> Piece | None:
        try:
            return self._stdin.read(self._claim.id, self._claim.attempt, offset, taken, most)
        except StoreUnavailable:
            return Piece(b"", last=False)  # the feeder looks again
        except redis.exceptions.RedisError as error:  # of a malformed key
            report_malformed("standard input", error)
            return Piece(b"", last=False)


def source_of(store: Store, claim: Claim, specification: Specification, directory: Path) -> Source | None:
    """The source of an execution's standard input while it runs; ``None`` if the START request contains all of it.

    ``directory``: on this host, out of the sandbox's sight, for a blob. Raises :class:`PlatformError` if the blob is
    gone or cannot be read.
    """
    stdin = specification.stdin
    if isinstance(stdin, str) or (stdin.blob is None and not stdin.stream):
        return None
    if stdin.blob is None:
        return Streamed(store, claim)
    path = directory / "stdin"
    try:
        if not store.blobs.fetch(specification.tenant, stdin.blob, path):
            raise PlatformError("The blob of the standard input was deleted.")
        with path.open("rb") as file:
            path.unlink()
            return Whole(mmap(file.fileno(), 0, access=ACCESS_READ) if os.fstat(file.fileno()).st_size else b"")
    except OSError as error:
        raise PlatformError(f"The blob of the standard input cannot be read: {error.strerror}.") from error


class Feeder:
    """Sends a source's bytes to one agent as it takes them. Thread-safe."""

    def __init__(self, source: Source, send: Callable[[bytes, float], None]) -> None:
        self._source, self._send = source, send
        self._news = threading.Event()
        self._lock = threading.Lock()  # locked while a frame is sent, so that the stream stays open
        self._closed = False
        self._sent = self._taken = 0

    def start(self) -> None:
        """Start to send."""
        threading.Thread(target=self._run, name="stdin", daemon=True).start()

    def wake(self) -> None:
        """Notify the thread that the source has more bytes."""
        self._news.set()

    def acknowledge(self, frame: Frame) -> None:
        """Process an acknowledgement: the total of bytes that the program has received.

        Raises :class:`FrameError` unless the total has grown and is at most the number of sent bytes: agents send no
        other totals, and each frame costs a read of the source.
        """
        taken = frame.json().get("bytes")
        if not isinstance(taken, int) or isinstance(taken, bool):
            raise FrameError("STDIN_TAKEN without a number of bytes")
        if not self._taken < taken <= self._sent:
            raise FrameError(f"STDIN_TAKEN of {taken} bytes after {self._taken}, of {self._sent} that were sent")
        self._taken = taken
        self._news.set()

    def close(self) -> None:
        """Stop sending, after a frame in progress. Idempotent."""
        self._closed = True
        self._news.set()
        with self._lock:
            pass

    def _run(self) -> None:
        while not self._closed:
            self._news.clear()
            room = min(PIECE_BYTES, WINDOW_BYTES - (self._sent - self._taken))
            if room <= 0:
                self._news.wait(LOOK_SECONDS)
                continue
            piece = self._source.read(self._sent, self._taken, room)
            if piece is None:
                return
            frames = encode(ToAgent.STDIN, piece.data) if piece.data else b""
            if piece.last:
                frames += encode(ToAgent.STDIN)
            self._sent += len(piece.data)  # before the send: the agent may acknowledge at once
            if frames and not self._deliver(frames):
                return
            if piece.last:
                return
            if not piece.data:
                self._news.wait(LOOK_SECONDS)

    def _deliver(self, frames: bytes) -> bool:
        with self._lock:
            if self._closed:
                return False
            try:
                self._send(frames, SEND_SECONDS)
            except RuntimeUnavailable as error:  # the sandbox has ended, or its agent reads no more
                log.debug("stdin.not_taken", detail=error.message)
                return False
        return True
