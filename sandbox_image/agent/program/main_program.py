"""Runs a file like ``python3 file``, without a Python frame beneath it, and with the same end.

``python3 file`` runs a file from C, so the file's own frame is the lowest one: for ``sys._getframe``, tracebacks,
``warnings`` and the limit on recursion. This interpreter runs the agent's module in the same way, and between the last
line of that module and the report of its exception it flushes ``sys.stderr``, from C, with no frame left (``flush_io``
in CPython's ``pythonrun.c``). :class:`Stage` takes the place of ``sys.stderr`` for this one call and hands out, as its
``flush``, the very C function that ``python3 file`` calls. Decoding, syntax errors and ``__main__`` are exact for the
same reason.

The agent's module ends with a ``SystemExit``, whose code is set once the file has run.
"""

from __future__ import annotations

import _ctypes
import os
import sys
from _functools import partial  # type: ignore[import-not-found]

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sandbox_image.agent.program import ending, libc
else:
    import ending
    import libc

# Addresses of functions, looked up before any program runs.
FOPEN, FMEMOPEN, RUN_FILE, LEAVE_LEVEL = map(
    libc.address, ("fopen", "fmemopen", "PyRun_SimpleFileExFlags", "Py_LeaveRecursiveCall")
)
LEVELS = 2  # of recursion, for which the call counts that runs the file; the program is to have them for itself
KEEPS_LOCK = 4  # of the functions' calling conventions; the lock is the interpreter's


class InterpreterFunction(_ctypes.CFuncPtr):
    """A function of the interpreter, called with its lock kept."""

    _flags_ = libc.CDECL | KEEPS_LOCK


class Stage:
    """Stands in for ``sys.stderr`` until the agent's module has ended."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run

    @property
    def flush(self) -> Callable[[], Any]:
        """Restore the real ``sys.stderr``, then return the function that runs the file: this frame is gone when it is
        called.
        """
        sys.stderr = sys.__stderr__
        return self._run


class Leaving(SystemExit):
    """Ends the agent's module, and with it the process, once the program's file has run."""

    def __init__(self) -> None:
        self.code = 0

    def set_code(self, failed: int) -> None:
        """Record the result of the file: 0, or -1 for an uncaught, printed exception."""
        if not failed:
            ending.end_early(ending.End())
        elif getattr(sys, "last_type", None) is KeyboardInterrupt:
            ending.end_early(ending.Interrupted())
        else:
            self.code = 1


def opened(path: str) -> int:
    """The C library's stream (``FILE *``) of a file to read; 0 if it cannot be opened."""
    return libc.ForPointer(FOPEN)(os.fsencode(path), b"rb") or 0


def opened_text(source: bytes) -> int:
    """The C library's stream of a source, which must live as long as the stream; 0 without memory for it."""
    return libc.ForPointer(FMEMOPEN)(source, libc.Pointer(len(source)), b"rb") or 0


def runner(path: str, stream: int, take_outcome: Callable[[int], None]) -> Callable[[], None]:
    """The C function that runs and closes an open file, whose call leaves no frame."""
    run = InterpreterFunction(RUN_FILE)
    run.restype = take_outcome
    close, flags = 1, None
    ready: Callable[[], None] = partial(run, libc.Pointer(stream), os.fsencode(path), close, flags)
    return ready


def prepare(path: str, stream: int) -> Leaving:
    """Run the file as the main program when the caller's module ends with the given exception."""
    leaving = Leaving()
    sys.stderr = Stage(runner(path, stream, leaving.set_code))
    for _ in range(LEVELS):
        InterpreterFunction(LEAVE_LEVEL)()
    return leaving
