"""Becoming the program: by fork, in this interpreter; by exec; or in a process of its own that was started ahead.

``agent.py`` has the theory of operation. All of it but :class:`Ahead` and what that asks runs in the forked child.
"""

# ruff: noqa: TID251 - the environment here is the program's
from __future__ import annotations

import _ctypes
import array
import binascii
import functools
import io
import json
import math
import os
import resource
import struct
import sys
import time
import types
from _frozen_importlib_external import SourceFileLoader  # what importlib.machinery calls so

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    import signal
    from typing import Any, NoReturn

    from sandbox_image.agent import execution
else:
    import _signal as signal  # see execution.py

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


def libc(name: str, *arguments: int | bytes) -> int:
    """A function of the C library; integers of 32 bits. All of ``ctypes`` would take a tenth of the agent's start."""
    itself = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
    return int(_ctypes.call_cdeclfunction(_ctypes.dlsym(itself, name), arguments))


class BecomeProgram(BaseException):
    """Unwinds a forked child out of the agent; carries the program's source and path."""

    def __init__(self, source: bytes, path: str) -> None:
        self.source, self.path = source, path


class Ahead:
    """The program's process, started before its program is known, by the host's PREPARE.

    It has all that a program's process has, and waits on its descriptor 3 for the rest: one JSON object with the
    program's ``args`` and ``env``, and the end of the pipe. It is a fork of this interpreter, or executes another.
    """

    FIXED = ("fork", "entrypoint", "cpu_seconds", "memory_bytes", "denial_log")

    def __init__(self, prepared: dict[str, Any]) -> None:
        self._prepared = prepared
        enter = await_orders if prepared["fork"] else functools.partial(become, argv=prepared["run"], source=None)
        *self._forked, self._orders = execution.fork(functools.partial(enter, prepared), orders=True)

    def go(self, start: dict[str, Any], source: bytes | None) -> tuple[int, ...] | None:
        """Have it run the program; ``None``, and it is gone, if a new process would behave differently."""
        orders = json.dumps({"args": start["args"], "env": start["env"]}).encode()
        same = all(start[name] == self._prepared[name] for name in self.FIXED) and not start["compile"]
        able = source is not None if start["fork"] else not needs_new_process(start["env"])
        try:
            if same and able and len(orders) <= PIPE_BYTES:
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


def become(start: dict[str, Any], ends: tuple[int, ...], argv: list[str], source: bytes | None) -> NoReturn:
    """In the forked child: leave nothing of the agent behind, then be the program."""
    leave_agent(start, ends)
    if source is not None:
        become_python(start["entrypoint"])
        take_orders(start, argv)
        raise BecomeProgram(source, start["entrypoint"])
    try:
        os.execvpe(argv[0], argv, start["env"])
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        os._exit(126 if isinstance(error, PermissionError) else 127)


def await_orders(prepared: dict[str, Any], ends: tuple[int, ...]) -> NoReturn:
    """In a child that was forked ahead: all that can be done without its program, then be that."""
    leave_agent(prepared, ends)
    become_python(prepared["entrypoint"])
    orders = b""
    while data := os.read(3, PIPE_BYTES):
        orders += data
    os.close(3)
    if not orders:  # the program gets a new process
        os._exit(0)
    start = {**prepared, **json.loads(orders)}
    take_orders(start, [*start["run"], *start["args"]])
    with open(start["entrypoint"], "rb") as file:
        raise BecomeProgram(file.read(), start["entrypoint"])


def leave_agent(start: dict[str, Any], ends: tuple[int, ...]) -> None:
    """Have only these descriptors, and everything else as a program's process has it."""
    for number, end in enumerate(ends):
        os.dup2(end, number)
    os.closerange(len(ends), os.sysconf("SC_OPEN_MAX"))
    libc("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)  # only now: no descriptor of the agent is left to be found
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


def log_denials(instructions: bytes) -> None:
    """Have the kernel log some of the calls that the container's own filter denies silently; none where it cannot.

    Of two filters that give the same answer the kernel heeds the later one's wish for a log. This one denies nothing
    more than the container's, so the wall stands without it.
    """
    if instructions:
        kept = array.array("B", instructions)
        program = struct.pack("HP", len(instructions) // 8, kept.buffer_info()[0])  # struct sock_fprog
        number = SYS_SECCOMP[os.uname().machine]
        libc("syscall", number, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, program)


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
    main_module = types.ModuleType("__main__")
    main_module.__dict__.update(
        __loader__=SourceFileLoader("__main__", path),
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
