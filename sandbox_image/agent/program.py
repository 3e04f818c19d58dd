"""Becoming the program: by fork, in this interpreter; by exec; or in a process of its own that was started ahead.

``agent.py`` has the theory of operation. All of it but :class:`Ahead` runs in the forked child.
"""

# ruff: noqa: TID251 - the environment here is the program's
from __future__ import annotations

import binascii
import ctypes
import functools
import importlib.machinery
import io
import json
import math
import os
import resource
import signal
import sys
import time
import types

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from sandbox_image.agent import execution
else:
    import execution

AGENT_MODULES = ("artifacts", "channel", "execution", "program")
PR_SET_DUMPABLE = 4
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG = 1, 2
SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
PIPE_BYTES = 4096  # what a pipe takes at least
# Read once, when an interpreter or a preloaded library starts: a program that sets one of these gets a new process.
START_ONLY_VARIABLES = (
    *("PYTHON", "LANG", "LC_", "LD_", "GLIBC_", "MALLOC_", "OPENBLAS_", "OMP_", "MPL"),
    *("NODE", "UV_", "ICU_", "OPENSSL", "SSL_"),
)

libc = ctypes.CDLL(None)


class BecomeProgram(BaseException):
    """Unwinds a forked child out of the agent; carries the program's source and path."""

    def __init__(self, source: bytes, path: str) -> None:
        self.source, self.path = source, path


class Ahead:
    """The program's interpreter, started before its program is known, by the host's PREPARE.

    It has all that a program's process has, and waits on its descriptor 3 for the rest: one JSON object with the
    program's ``args`` and ``env``, and the end of the pipe.
    """

    FIXED = ("entrypoint", "cpu_seconds", "memory_bytes", "denial_log")

    def __init__(self, prepared: dict[str, Any]) -> None:
        self._prepared = prepared
        enter = functools.partial(become, prepared, prepared["run"], None)
        *self._forked, self._orders = execution.fork(enter, orders=True)

    def go(self, start: dict[str, Any]) -> tuple[int, ...] | None:
        """Have it run the program; ``None``, and it is gone, if a new process would behave differently."""
        orders = json.dumps({"args": start["args"], "env": start["env"]}).encode()
        same = all(start[name] == self._prepared[name] for name in self.FIXED) and not start["compile"]
        try:
            if same and len(orders) <= PIPE_BYTES and not needs_new_process(start["env"]):
                os.write(self._orders, orders)
                return tuple(self._forked)
        except BrokenPipeError:
            pass  # it did not live so long
        finally:
            os.close(self._orders)
        execution.kill_everything()
        for end in self._forked[1:]:
            os.close(end)
        return None


def needs_new_process(env: dict[str, str]) -> bool:
    """Whether the program's environment variables must be there when its interpreter starts."""
    return any(
        name.startswith(START_ONLY_VARIABLES) and env.get(name) != os.environ.get(name) for name in {*env, *os.environ}
    )


def forkable(start: dict[str, Any]) -> bytes | None:
    """The program's source, when running it in a fork of this interpreter shows no difference to ``python3``."""
    path, env = start["entrypoint"], start["env"]
    if not start["fork"] or not path.endswith(".py"):
        return None
    if needs_new_process(env):
        return None
    try:
        beside = {name.partition(".")[0] for name in os.listdir(os.path.dirname(path))}
        if beside & (sys.modules.keys() - {"agent", *AGENT_MODULES}):
            return None  # it brings, say, its own random.py, and the preloaded one is not to shadow it
        with open(path, "rb") as file:
            source = file.read()
    except OSError:
        return None  # Python's own message is the right one
    return None if b"\0" in source else source


def become(start: dict[str, Any], argv: list[str], source: bytes | None, ends: tuple[int, ...]) -> NoReturn:
    """In the forked child: leave nothing of the agent behind, then be the program."""
    for number, end in enumerate(ends):
        os.dup2(end, number)
    os.closerange(len(ends), os.sysconf("SC_OPEN_MAX"))
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # only now: no descriptor of the agent is left to be found
    os.setsid()
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_DFL)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # the container's own score holds
    cpu_seconds = math.ceil(start["cpu_seconds"]) + 1  # a backstop for each process; the agent watches all together
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    cpu_seconds = cpu_seconds if hard == resource.RLIM_INFINITY else min(cpu_seconds, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    log_denials(binascii.a2b_base64(start["denial_log"]))
    if source is not None:
        become_python(start, argv)
        raise BecomeProgram(source, start["entrypoint"])
    try:
        os.execvpe(argv[0], argv, start["env"])
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        os._exit(126 if isinstance(error, PermissionError) else 127)


class Filter(ctypes.Structure):
    """The kernel's struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def log_denials(instructions: bytes) -> None:
    """Have the kernel log some of the calls that the container's own filter denies silently; none where it cannot.

    Of two filters that give the same answer the kernel heeds the later one's wish for a log. This one denies nothing
    more than the container's, so the wall stands without it.
    """
    if instructions:
        program = Filter(len(instructions) // 8, ctypes.cast(ctypes.c_char_p(instructions), ctypes.c_void_p))
        number = SYS_SECCOMP[os.uname().machine]
        libc.syscall(number, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, ctypes.byref(program))


def become_python(start: dict[str, Any], argv: list[str]) -> None:
    """Make this interpreter look as that of ``python3 entrypoint args`` does at the program's first line."""
    path = start["entrypoint"]
    os.environ.clear()
    os.environ.update(start["env"])
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.argv, sys.orig_argv = [path, *start["args"]], argv
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        plain = getattr(sys, name)
        raw: Any = open(number, mode + "b", closefd=False)  # noqa: SIM115 - lives as long as the program
        raw.raw.name = f"<{name}>"
        text: Any = io.TextIOWrapper(raw, plain.encoding, plain.errors, "\n", line_buffering=name == "stderr")
        text.mode = mode
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
    main_module = types.ModuleType("__main__")
    main_module.__dict__.update(
        __loader__=importlib.machinery.SourceFileLoader("__main__", path),
        __annotations__={},
        __builtins__=sys.modules["builtins"],
        __file__=path,
        __cached__=None,
    )
    sys.modules["__main__"] = main_module
    for name in AGENT_MODULES:
        del sys.modules[name]
    if numpy_random := sys.modules.get("numpy.random"):  # the standard library reseeds itself after a fork
        numpy_random.seed()


def hide_agent(error: BaseException) -> None:
    """Have the interpreter report the program's uncaught error without this module's frame."""
    user_hook = sys.excepthook

    def excepthook(kind: type[BaseException], value: BaseException, trace: types.TracebackType | None) -> None:
        sys.excepthook = user_hook
        value.__traceback__ = sys.last_traceback = trace.tb_next if trace else None
        user_hook(kind, value, value.__traceback__)

    if not isinstance(error, SystemExit):
        sys.excepthook = excepthook
