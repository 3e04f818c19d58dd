"""An agent's reports of a compile step and of the program's end, parsed once, under bounds.

:mod:`worker.agent.conversation` checks the reports against the host's own facts.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.characters import whole_characters
from orchestrator.errors import FrameError
from orchestrator.models import Compile
from worker.agent.frames import Frame

MAX_EXIT_CODE, MAX_COMPILE_SECONDS = 255, 86_400
COMPILE_OUTPUT_BYTES = 64 * 1024
MAX_COUNT = 2**53
MAX_PATHS, MAX_PATH = 8, 64


@dataclass(frozen=True)
class Exit:
    """The program's end as reported in the last frame, without malformed fields.

    ``stopped`` is the limit for which the agent stopped its program, ``disk_full`` the full directories, ``unrouted``
    the number of attempts to leave a sandbox with a loopback.
    """

    exit_code: int | None = None
    signal: int | None = None
    stopped: str | None = None
    disk_full: tuple[str, ...] = ()
    unrouted: int = 0


def parse_exit(frame: Frame) -> Exit:
    """Parse the last frame. Raises :class:`FrameError` if the frame is no JSON object."""
    fields = frame.json()
    code, signal, stopped, paths, count = map(fields.get, ("exit_code", "signal", "stopped", "disk_full", "unrouted"))
    return Exit(
        exit_code=code if isinstance(code, int) else None,
        signal=signal if isinstance(signal, int) else None,
        stopped=stopped if isinstance(stopped, str) else None,
        disk_full=tuple(str(path)[:MAX_PATH] for path in paths[:MAX_PATHS]) if isinstance(paths, list) else (),
        unrouted=count if isinstance(count, int) and 0 <= count < MAX_COUNT else 0,
    )


def parse_compiled(frame: Frame, stdout: bytes, stderr: bytes) -> Compile:
    """The report of a compile step with this output. Raises :class:`FrameError` for an impossible report."""
    fields = frame.json()
    code, seconds = fields.get("exit_code"), fields.get("wall_seconds")
    if not isinstance(code, int) or not isinstance(seconds, int | float):
        raise FrameError("the compile step's report is incomplete")
    if not 0 <= code <= MAX_EXIT_CODE or not 0 <= seconds <= MAX_COMPILE_SECONDS:
        raise FrameError("the compile step's report cannot be true")
    return Compile(exit_code=code, stdout=_text(stdout), stderr=_text(stderr), wall_seconds=float(seconds))


def _text(kept: bytes) -> str:
    """A compiler's output, without a character that the bound cut off."""
    return kept[: whole_characters(kept) if len(kept) == COMPILE_OUTPUT_BYTES else None].decode(errors="replace")
