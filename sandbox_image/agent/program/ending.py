"""Ends a Python program's process like ``python3``, without the invisible part of the work.

An ending interpreter destroys all its objects, which copies hundreds of pages that a forked program shares with the
agent: a third of a small program's time. Two steps are omitted: modules that were loaded before the program stay
(:func:`leave_in_place`), and the process ends as soon as all objects of the program are gone (:func:`end_early`).
Threads are joined, exit handlers run, all modules and objects of the program are destroyed, and output is flushed, as
usual.
"""

from __future__ import annotations

import _ctypes
import os
import sys

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    import signal

    from sandbox_image.agent.program import interpreter, live_output
else:
    import _signal as signal  # see execution.py

    import interpreter
    import live_output

LAST = "the end"  # in the namespace of ``sys``: the last thing that the interpreter clears, and in order


class End:
    """Ends the process, by the C library's ``exit``, when this object is destroyed."""

    def __del__(self) -> None:
        interpreter.libc("exit", 0)


class Interrupted:
    """Ends the process by SIGINT when this object is destroyed, as ``python3`` does on ``KeyboardInterrupt``."""

    def __del__(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        interpreter.libc("kill", os.getpid(), int(signal.SIGINT))


def end_early(end: End | Interrupted) -> None:
    """Make the process end as soon as all objects of the program are gone."""
    vars(sys)[LAST] = end


def leave_in_place() -> None:
    """The last exit handler: keep the interpreter from destroying modules loaded before the program."""
    live_output.end()
    if not flushed() and LAST in vars(sys):
        keep(vars(sys).pop(LAST))  # the exit code is the interpreter's to find
    keep(interpreter.loaded)
    for name, module in interpreter.loaded.items():
        if name not in ("sys", "builtins") and sys.modules.get(name) is module:
            sys.modules[name] = None  # type: ignore[assignment]  # as the interpreter itself does next


def keep(value: object) -> None:
    """Never free this object."""
    _ctypes.Py_INCREF(value)


def flushed() -> bool:
    """Flush the program's output. Returns whether all was written."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # any objects that the program has put in their place
        return False
    return True
