"""This interpreter as a program's: what is loaded in it, how it looks at the program's first line, and how it ends.

``agent.py`` has the theory of operation.
"""

# ruff: noqa: TID251 - the environment here is the program's

from __future__ import annotations

import _ctypes
import atexit
import gc
import io
import os
import select
import sys
import time
from _frozen_importlib_external import SourceFileLoader  # what importlib.machinery calls so

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    import signal
    import types
    from collections.abc import Callable, Iterable
    from typing import Any
else:
    import _signal as signal  # see execution.py

AGENT_MODULES = ("artifacts", "channel", "execution", "interpreter", "program")
_loaded: dict[str, types.ModuleType] = {}


def libc(name: str, *arguments: int | bytes) -> int:
    """A function of the C library; integers of 32 bits. All of ``ctypes`` would take a tenth of the agent's start."""
    itself = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
    return int(_ctypes.call_cdeclfunction(_ctypes.dlsym(itself, name), arguments))


def preload(names: Iterable[str]) -> None:
    """Import these in the agent itself, so in every program that it forks."""
    atexit.register(leave_in_place)  # first of all, so it runs last
    load(names)


def load_while_idle(names: Iterable[str], orders: int, idle_seconds: float) -> bool:
    """Import these as long as the descriptor ``orders`` has been, and stays, silent; whether it has been."""

    def silent(seconds: float) -> bool:
        return not select.select([orders], [], [], seconds)[0]

    idle = silent(idle_seconds)
    if idle:
        load(names, lambda: silent(0))
    return idle


def load(names: Iterable[str], go_on: Callable[[], bool] = lambda: True) -> None:
    """Import these, and keep the collector off them, so that a fork goes on sharing their pages."""
    gc.disable()  # no garbage worth a look comes of it
    for name in names:
        if not go_on():
            break
        try:
            __import__(name)
        except Exception:
            continue  # a program that imports it gets the same error
    gc.freeze()
    gc.enable()
    _loaded.update((name, module) for name, module in sys.modules.items() if name not in _loaded)  # not a new __main__


def become_python(path: str) -> None:
    """Make this interpreter look as that of ``python3 path`` does at the program's first line."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        plain = getattr(sys, name)
        raw: Any = open(number, mode + "b", closefd=False)  # noqa: SIM115 - lives as long as the program
        raw.raw.name = f"<{name}>"
        text: Any = io.TextIOWrapper(raw, plain.encoding, plain.errors, "\n", line_buffering=name == "stderr")
        text.mode = mode
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
    main_module = type(sys)("__main__")
    main_module.__dict__.update(
        __loader__=SourceFileLoader("__main__", path),
        __annotations__={},
        __builtins__=sys.modules["builtins"],
        __file__=path,
        __cached__=None,
    )
    sys.modules["__main__"] = main_module
    for name in AGENT_MODULES:
        sys.modules.pop(name, None)
    if numpy_random := sys.modules.get("numpy.random"):  # the standard library reseeds itself after a fork
        numpy_random.seed()


def take_orders(start: dict[str, Any], argv: list[str]) -> None:
    """The program's arguments and environment variables."""
    path = start["entrypoint"]
    os.environ.clear()
    os.environ.update(start["env"])
    time.tzset()
    sys.argv, sys.orig_argv = [path, *start["args"]], argv
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))


def hide_agent(error: BaseException) -> None:
    """Have the interpreter report the program's uncaught error without this module's frame."""
    user_hook = sys.excepthook

    def excepthook(kind: type[BaseException], value: BaseException, trace: types.TracebackType | None) -> None:
        sys.excepthook = user_hook
        value.__traceback__ = sys.last_traceback = trace.tb_next if trace else None
        user_hook(kind, value, value.__traceback__)

    if not isinstance(error, SystemExit):
        sys.excepthook = excepthook


class End:
    """Ends the process, by the C library's ``exit``, when this object goes."""

    due = True

    def __del__(self) -> None:
        if End.due:
            libc("exit", 0)


def end_early() -> None:
    """After a program that has ended well: the interpreter is not to take itself apart, which nobody sees.

    That would copy hundreds of shared pages, a third of the time a small program takes. Threads are joined, exit
    handlers run, all modules and objects of the program go, and what it printed is flushed, as ever: the last thing
    that the interpreter clears, and in order, is the namespace of ``sys``.
    """
    vars(sys)["the end"] = End()


def leave_in_place() -> None:
    """At the end of a forked program: spare the interpreter taking apart what was loaded before it.

    That would copy most of the shared pages, a third of the time a small program takes. The program's own
    modules and objects are torn down as ever.
    """
    End.due = End.due and flushed()  # else its exit code is the interpreter's to find
    _ctypes.Py_INCREF(_loaded)  # never freed
    for name, module in _loaded.items():
        if name not in ("sys", "builtins") and sys.modules.get(name) is module:
            sys.modules[name] = None  # type: ignore[assignment]  # as the interpreter itself does next


def flushed() -> bool:
    """Whether what the program has printed could be written."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # whatever the program has put in their place
        return False
    return True
