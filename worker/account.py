"""What an agent says beside output and files, and how far it is believed.

The program may have killed the agent's processes, or in gVisor speak in its place: what the agent says of the end is
held against the host's clock, its counters, and the exit code that the kernel or the engine reports.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from orchestrator.characters import whole_characters
from orchestrator.errors import FrameError
from orchestrator.models import Compile
from worker.exits import KILLED
from worker.frames import Frame, FromAgent

MAX_EXIT_CODE, MAX_COMPILE_SECONDS = 255, 86_400
COMPILE_OUTPUT_BYTES = 64 * 1024
CLOCK_ACCURACY = 0.95
AGENT_FAILED, AGENT_UNFILTERED = 125, 123


class Account:
    """One agent's words. ``forged`` and ``overstayed`` are for others to set: what shows that they were not its own."""

    def __init__(self, wall_seconds: float, host_counts_cpu: bool) -> None:
        self._wall_seconds = wall_seconds
        self._host_counts_cpu = host_counts_cpu
        self._compile_output = {FromAgent.COMPILE_STDOUT: b"", FromAgent.COMPILE_STDERR: b""}
        self._exit: dict[str, Any] | None = None
        self._asked = self._told = time.monotonic()  # when START was sent, and when EXIT came
        self.forged = self.overstayed = False
        self.compile: Compile | None = None

    def begin(self) -> None:
        """The program is about to be asked for."""
        self._asked = time.monotonic()

    def take(self, frame: Frame) -> None:
        """A frame about the compile step, or the last one. Raises :class:`FrameError` for what no agent says."""
        match frame.kind:
            case FromAgent.COMPILE_STDOUT | FromAgent.COMPILE_STDERR:
                kept = self._compile_output[frame.kind] + frame.payload
                self._compile_output[frame.kind] = kept[:COMPILE_OUTPUT_BYTES]
            case FromAgent.COMPILED:
                self.compile = self._compiled(frame.json())
            case FromAgent.EXIT:
                self._exit, self._told = frame.json(), time.monotonic()
            case FromAgent.READY:
                raise FrameError("a second report of readiness")

    @property
    def complete(self) -> bool:
        """Whether the last frame has come."""
        return self._exit is not None

    @property
    def signal(self) -> int | None:
        """The signal that ended the program."""
        signal = (self._exit or {}).get("signal")
        return signal if isinstance(signal, int) else None

    @property
    def disk_full(self) -> tuple[str, ...]:
        """Directories that were full at the end."""
        paths = (self._exit or {}).get("disk_full")
        return tuple(str(path)[:64] for path in paths[:8]) if isinstance(paths, list) else ()

    @property
    def unrouted(self) -> int:
        """How often the program tried to leave a sandbox with a loopback."""
        count = (self._exit or {}).get("unrouted")
        return count if isinstance(count, int) and 0 <= count < 2**53 else 0

    @property
    def stopped(self) -> Literal["wall", "cpu"] | None:
        """The limit that the agent stopped its program for, if the host's own clock and counters allow for that."""
        match (self._exit or {}).get("stopped"):
            case "wall" if self._told - self._asked >= CLOCK_ACCURACY * self._wall_seconds:
                return "wall"
            case "cpu" if not self._host_counts_cpu:
                return "cpu"
        return None

    def is_false(self, exit_code: int | None) -> bool:
        """Whether the last frame cannot be the agent's: that names the code with which it then exits, and exits.

        A sandbox that was killed in between has the kernel's code, which says nothing about the frame.
        """
        if self.forged or self.overstayed:
            return True
        said = self._exit or {}
        return bool(said) and exit_code not in (None, KILLED) and said.get("exit_code") != exit_code

    def silenced(self, exit_code: int | None) -> bool:
        """Whether whoever said how it would exit was killed before it did."""
        return self.complete and not self.overstayed and exit_code == KILLED != (self._exit or {}).get("exit_code")

    def _compiled(self, said: dict[str, Any]) -> Compile:
        code, seconds = said.get("exit_code"), said.get("wall_seconds")
        if not isinstance(code, int) or not isinstance(seconds, int | float):
            raise FrameError("the compile step's report is incomplete")
        if not 0 <= code <= MAX_EXIT_CODE or not 0 <= seconds <= MAX_COMPILE_SECONDS:
            raise FrameError("the compile step's report cannot be true")
        out, err = self._compile_output.values()
        return Compile(
            exit_code=code,
            stdout=_text(out),
            stderr=_text(err),
            wall_seconds=float(seconds),
        )


def _text(kept: bytes) -> str:
    """A compiler's output; a character that the bound cut off is left out."""
    return kept[: whole_characters(kept) if len(kept) == COMPILE_OUTPUT_BYTES else None].decode(errors="replace")
