"""How a Python program's process ends: as that of ``python3`` does, without the work that leaves no trace.

An interpreter that ends takes itself apart, which copies hundreds of pages that a forked program shares with the
agent: a third of the time that a small program takes. Two things are left out: modules that were loaded before the
program stay (:func:`leave_in_place`), and the process ends as soon as nothing of the program is left
(:func:`end_early`). Threads are joined, exit handlers run, all modules and objects of the program go, and what it
printed is flushed, as ever.
"""

from __future__ import annotations

import _ctypes
import os
import sys

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    import signal

    from sandbox_image.agent import interpreter, live_output
else:
    import _signal as signal  # see execution.py

    import interpreter
    import live_output

LAST = "the end"  # in the namespace of ``sys``: the last thing that the interpreter clears, and in order


class End:
    """Ends the process, by the C library's ``exit``, when this object goes."""

    def __del__(self) -> None:
        interpreter.libc("exit", 0)


class Interrupted:
    """Ends the process by SIGINT when this object goes, as ``python3`` does after an uncaught ``KeyboardInterrupt``."""

    def __del__(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        interpreter.libc("kill", os.getpid(), int(signal.SIGINT))


def end_early(end: End | Interrupted) -> None:
    """Have the process end as soon as nothing of the program is left."""
    vars(sys)[LAST] = end


def leave_in_place() -> None:
    """The last exit handler: keep the interpreter from taking apart what was loaded before the program."""
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
    """Whether what the program has printed could be written."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # whatever the program has put in their place
        return False
    return True
