"""Bounds on the number of frames of each kind, so that a flood of small frames never costs the worker more than the
sandbox.

Output, files and rejections have bounds of bytes and number elsewhere. The bounds here are for all other frames: frames
without a payload, kinds that the agent sends a few times at most, and data in small pieces, whose bytes cost little.
Small pieces are legitimate: a program may print single bytes, or leave small files. But each piece costs the agent CPU
time of its own container, so an honest agent cannot have sent more pieces than the cgroup's CPU time allows.
"""

from __future__ import annotations

import os

from orchestrator.errors import FrameError
from worker.agent.frames import Frame, FromAgent

NEVER_EMPTY = frozenset(
    {
        *(FromAgent.STDOUT, FromAgent.STDERR, FromAgent.COMPILE_STDOUT, FromAgent.COMPILE_STDERR),
        *(FromAgent.FILE_DATA, FromAgent.RESULT_DATA, FromAgent.CALL_DATA),
    }
)
ACKNOWLEDGEMENTS = frozenset({FromAgent.STDIN_TAKEN, FromAgent.ANSWER_TAKEN})  # each may acknowledge a single byte
MOST = {FromAgent.REJECTED: 100, FromAgent.DISK_FULL: 8}
MOST_BYTES = {
    FromAgent.RUNNING: 64,
    FromAgent.STDIN_TAKEN: 64,
    FromAgent.ANSWER_TAKEN: 64,
    FromAgent.DISK_FULL: 1024,
    FromAgent.COMPILED: 1024,
}
SMALL_BYTES = 512
FREE_FRAMES = 50_000
FRAME_CPU_SECONDS = 5e-6  # an agent needs 12 µs or more to read, frame and send a piece of output


class FrameBudget:
    """The frames that one sandbox has sent and may still send. Used by one thread."""

    def __init__(self) -> None:
        self._sent = dict.fromkeys(MOST, 0)
        self._small = 0
        self.compile_bytes = 0

    def charge(self, frame: Frame) -> None:
        """Count a frame. Raises :class:`FrameError` for a frame that an agent never sends, or too many of a kind."""
        kind, size = frame.kind, len(frame.payload)
        if kind in NEVER_EMPTY:
            if not size:
                raise FrameError(f"frame {kind.name} without a payload")
            self._small += size < SMALL_BYTES
            if kind in (FromAgent.COMPILE_STDOUT, FromAgent.COMPILE_STDERR):
                self.compile_bytes += size
            return
        self._small += kind in ACKNOWLEDGEMENTS
        if size > MOST_BYTES.get(kind, size):
            raise FrameError(f"frame {kind.name} of {size} bytes, bound {MOST_BYTES[kind]}")
        if kind in MOST:
            self._sent[kind] += 1
            if self._sent[kind] > MOST[kind]:
                raise FrameError(f"more than {MOST[kind]} frames {kind.name}")

    def settle(self, cpu_seconds: float | None, wall_seconds: float) -> None:
        """Check the number of small pieces against the CPU time since the start, or its largest possible value.

        Raises :class:`FrameError` for more pieces than an agent can send.
        """
        seconds = wall_seconds * (os.cpu_count() or 1) if cpu_seconds is None else cpu_seconds
        if self._small > FREE_FRAMES + seconds / FRAME_CPU_SECONDS:
            raise FrameError(f"{self._small} small frames in {seconds:.3g} CPU seconds")
