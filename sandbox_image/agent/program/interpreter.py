"""Turns this interpreter into a program's: its loaded modules, and its state at the program's first line.

``agent.py`` has the theory of operation.
"""

# ruff: noqa: TID251 - the environment here is the program's

from __future__ import annotations

import _ctypes
import gc
import io
import os
import select
import sys
import time

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    import signal
    import types
    from collections.abc import Callable, Iterable
    from typing import Any
else:
    import _signal as signal  # see execution.py

AGENT_MODULES = (
    *("artifacts", "bundles", "cell", "channel", "ending", "execution", "globs", "identity", "interpreter", "libc"),
    *("live_output", "main_program", "process", "program", "results", "semaphores", "working_directory"),
)
loaded: dict[str, types.ModuleType] = {}


def libc(name: str, *arguments: int | bytes) -> int:
    """A function of the C library; integers of 32 bits. All of ``ctypes`` would take a tenth of the agent's start."""
    itself = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
    return int(_ctypes.call_cdeclfunction(_ctypes.dlsym(itself, name), arguments))


def load_while_idle(names: Iterable[str], start_pipe: int, idle_seconds: float) -> bool:
    """Import these modules while ``start_pipe`` has no data. Returns whether it had none after ``idle_seconds``."""

    def silent(seconds: float) -> bool:
        return not select.select([start_pipe], [], [], seconds)[0]

    idle = silent(idle_seconds)
    if idle:
        load(names, lambda: silent(0))
    return idle


def load(names: Iterable[str], go_on: Callable[[], bool] = lambda: True) -> None:
    """Import these modules and exclude them from garbage collection, so that a fork keeps sharing their pages."""
    gc.disable()  # imports leave almost no garbage
    for name in names:
        if not go_on():
            break
        try:
            __import__(name)
        except Exception:
            continue  # a program that imports it gets the same error
    gc.freeze()
    gc.enable()
    loaded.update((name, module) for name, module in sys.modules.items() if name not in loaded)  # not a new __main__


def become_python() -> None:
    """Bring this interpreter into the state of ``python3 path`` before it runs that file."""
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
    renew_main_module()
    if numpy_random := sys.modules.get("numpy.random"):  # the standard library reseeds itself after a fork
        numpy_random.seed()


def renew_main_module() -> None:
    """Make an empty ``__main__``, and remove the agent's modules from ``sys.modules``."""
    main_module = type(sys)("__main__")
    main_module.__dict__.update(__annotations__={}, __builtins__=sys.modules["builtins"])
    sys.modules["__main__"] = main_module
    for name in AGENT_MODULES:
        sys.modules.pop(name, None)


def apply_start(start: dict[str, Any], argv: list[str]) -> None:
    """The program's arguments and environment variables."""
    home = os.environ.get("HOME")
    if list(os.environ.items()) != list(start["env"].items()):
        os.environ.clear()
        os.environ.update(start["env"])
        time.tzset()
    site: Any = sys.modules.get("site")
    if site and os.environ.get("HOME") != home:  # where it has looked when it was loaded
        site.USER_BASE = site.USER_SITE = None
        site.getusersitepackages()
    set_command_line(start["entrypoint"], [start["entrypoint"], *start["args"]], argv)


def user_site(home: str) -> str:
    """The directory of a user's own packages, if it exists."""
    return f"{home}/.local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


def set_command_line(path: str, argv: list[str], orig_argv: list[str]) -> None:
    """Set the attributes of ``sys`` that describe the command line."""
    sys.argv, sys.orig_argv = argv, orig_argv
    if not sys.flags.safe_path:
        sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
