"""Becoming the program: by fork, in this interpreter; by exec; or in a process of its own that was started ahead.

``agent.py`` has the theory of operation. All of it except :class:`Ahead` and its functions runs in the forked child.
"""

# ruff: noqa: TID251 - the environment here is the program's
from __future__ import annotations

import _ctypes
import binascii
import math
import os
import resource
import struct
import sys
from _functools import partial  # type: ignore[import-not-found]

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    import signal
    from typing import Any, NoReturn

    from sandbox_image.agent.program import cell, interpreter, live_output, main_program
    from sandbox_image.agent.supervisor import channel, execution, identity, process
else:
    import _signal as signal  # see execution.py

    import cell
    import channel
    import execution
    import identity
    import interpreter
    import live_output
    import main_program
    import process

PR_SET_DUMPABLE = 4
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG = 1, 2
SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
FRESH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fresh.py")
PIPE_BYTES = 4096  # the least capacity of a pipe
# The program's ends of the pipes for its calls of tools and their answers, and where those are parked meanwhile. Below
# 16, since of such descriptors, which others may lie above, Node.js closes all to the processes that it starts.
TOOL_ENDS, PARKED = (14, 15), (62, 63)
REHEARSAL = b"""
import io
out = io.TextIOWrapper(io.BytesIO())
class Some:
    def text(self, *numbers):
        return {number: f"{number}" for number in numbers}
for number in range(2):
    print(Some().text(number), [number], file=out, flush=True)
"""
# Variables that an interpreter or a preloaded library reads only at its start: a program that sets one gets a new
# process.
START_ONLY_VARIABLES = (
    *("PYTHON", "LANG", "LC_", "LD_", "GLIBC_", "MALLOC_", "OPENBLAS_", "OMP_", "MPL", "NPY_", "NUMPY_", "PANDAS_"),
    *("NODE", "UV_", "ICU_", "OPENSSL", "SSL_"),
)
# Variables with which an interpreter prints each of its steps: such a program gets a new interpreter.
VISIBLE_AT_START = ("LD_DEBUG", "PYTHONINSPECT", "PYTHONMALLOCSTATS", "PYTHONPROFILEIMPORTTIME", "PYTHONVERBOSE")


class Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A replacement for that of ``ctypes``, whose import is too slow; ``array`` imports ``collections``."""

    _type_ = "B"


class BecomeProgram(BaseException):
    """Unwinds a forked child out of the agent, with the program's path and the file that the C library opened."""

    def __init__(self, path: str, stream: int) -> None:
        self.path, self.stream = path, stream


class Ahead:
    """The program's process, started before its program is known, by the host's PREPARE.

    It is set up like every program's process, and waits on its descriptor 3 for one JSON object with the program's
    ``args`` and ``env`` (and ``cell``, ``tools``), and the end of the pipe. It is a fork of this interpreter, which
    also gets ``entrypoint`` and ``run``, or it executes another interpreter. Whether its program has tools is not known
    yet, so it has their pipes, and closes them before a program without.
    """

    FIXED = ("fork", "cpu_seconds", "memory_bytes")

    def __init__(self, prepared: dict[str, Any]) -> None:
        self._prepared = prepared
        enter = await_start if prepared["fork"] else execute_prepared
        forked, self.tool_ends = process.fork(partial(enter, prepared), start_pipe=True, tools=True)
        self.forked, self._start_pipe = forked[:-1], forked[-1]

    def takes(self, start: dict[str, Any]) -> bool:
        """Whether it can run the program. If it would behave differently from a new process, it is ended."""
        named = ("entrypoint", "run") if start["fork"] else ()  # of another, the command line names its program
        only = tuple(name for name in ("cell", "tools") if start.get(name))
        self._message = channel.encode({name: start[name] for name in ("args", "env", *only, *named)})
        same = all(start[name] == self._prepared[name] for name in self.FIXED) and not start["compile"]
        able = start["fork"] or (
            start["entrypoint"] == self._prepared["entrypoint"] and not needs_new_process(start["env"])
        )
        taken = same and able and len(self._message) <= PIPE_BYTES and self._is_waiting()
        unused = self.tool_ends if "tools" not in start else ()
        if not taken:
            execution.kill_everything()
            unused = (self._start_pipe, *self.forked[1:], *self.tool_ends)
        for end in unused:
            os.close(end)
        return taken

    def _is_waiting(self) -> bool:
        """Whether the process still runs. If it ended during the rehearsal, it was reaped there."""
        try:
            return os.waitpid(self.forked[0], os.WNOHANG) == (0, 0)
        except ChildProcessError:
            return False

    def go(self) -> None:
        """Make it run the accepted program."""
        os.write(self._start_pipe, self._message)
        os.close(self._start_pipe)


def needs_new_process(env: dict[str, str]) -> bool:
    """Whether the program's environment variables must be set when its interpreter starts."""
    return any(
        name.startswith(START_ONLY_VARIABLES) and env.get(name) != os.environ.get(name) for name in {*env, *os.environ}
    )


def forkable(start: dict[str, Any]) -> bool:
    """Whether the program behaves in a fork of this interpreter as under ``python3``."""
    path = start["entrypoint"]
    if not start["fork"] or not path.endswith(".py") or needs_new_process(start["env"]):
        return False
    if os.path.isdir(interpreter.user_site(start["env"].get("HOME", ""))):
        return False  # which an interpreter looks for when it starts
    try:
        beside = {name.partition(".")[0] for name in os.listdir(os.path.dirname(path))}
    except OSError:
        return False  # Python's own message is the right one
    # The program may bring, for example, its own random.py, which the preloaded module must not shadow.
    return not beside & (sys.modules.keys() - {"agent", *interpreter.AGENT_MODULES})


def become(start: dict[str, Any], ends: tuple[int, ...], tool_ends: tuple[int, ...]) -> NoReturn:
    """In the forked child: remove the agent's state, then become the program."""
    leave_agent(start, ends, tool_ends)
    can_fork = forkable(start)
    if can_fork:
        interpreter.become_python()
        live_output.prepare()
    begin(start, can_fork)


def await_start(prepared: dict[str, Any], ends: tuple[int, ...], tool_ends: tuple[int, ...]) -> NoReturn:
    """In a child forked ahead: set up as far as possible without the program, then become the program."""
    leave_agent(prepared, ends, tool_ends)
    rehearse(prepared)
    interpreter.become_python()
    if interpreter.load_while_idle(prepared["preload"], 3, prepared["idle_seconds"]):
        interpreter.become_python()  # again, so that the collector ignores the new objects too
    live_output.prepare()
    fields = b""
    while data := os.read(3, PIPE_BYTES):
        fields += data
    os.close(3)
    if not fields:  # the program gets a new process
        os._exit(0)
    start = {**prepared, **channel.decode(fields)}
    if "tools" not in start:
        for end in TOOL_ENDS:
            os.close(end)
    begin(start, forkable(start))


def rehearse(prepared: dict[str, Any]) -> None:
    """Rehearse a program's start. The first start takes a millisecond or two longer: for page faults, and for the
    compiler's own set-up.
    """
    fields = channel.decode(channel.encode({"args": [], "env": prepared["env"]}))
    forkable(prepared)
    interpreter.apply_start({**prepared, **fields}, [])
    del sys.path[0]
    try:
        raise BecomeProgram(prepared["entrypoint"], main_program.opened_text(REHEARSAL))
    except BecomeProgram as found:
        main_program.Stage(main_program.runner(found.path, found.stream, lambda failed: None)).flush()


def begin(start: dict[str, Any], can_fork: bool) -> NoReturn:
    """Start the program: in this interpreter, or in a new one (``fresh.py``)."""
    argv = [*start["run"], *start["args"]]
    stream = main_program.opened(start["entrypoint"]) if can_fork else 0
    if stream and start.get("cell"):
        stream = main_program.opened_text(cell.CALL)
        vars(sys.modules["__main__"])[cell.CALLER] = partial(cell.run, start["entrypoint"])
    if not stream:
        fresh = start["fork"] and not any(map(start["env"].get, VISIBLE_AT_START))
        execute([argv[0], FRESH, *argv[1:]] if fresh else argv, start["env"], tools="tools" in start)
    interpreter.apply_start(start, argv)
    raise BecomeProgram(start["entrypoint"], stream)


def become_compiler(start: dict[str, Any], ends: tuple[int, ...]) -> NoReturn:
    """In a forked child: compile the program."""
    leave_agent(start, ends)
    execute(start["compile"], start["env"])


def execute_prepared(prepared: dict[str, Any], ends: tuple[int, ...], tool_ends: tuple[int, ...]) -> NoReturn:
    """In a child forked ahead: become the interpreter that waits for its program."""
    leave_agent(prepared, ends, tool_ends)
    execute(prepared["run"], prepared["env"], tools=True)


def execute(argv: list[str], env: dict[str, str], tools: bool = False) -> NoReturn:
    """Execute another program; with ``tools`` it gets the pipes for them."""
    for end in TOOL_ENDS if tools else ():
        os.set_inheritable(end, True)
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
        os._exit(126 if isinstance(error, PermissionError) else 127)


def leave_agent(start: dict[str, Any], ends: tuple[int, ...], tool_ends: tuple[int, ...] = ()) -> None:
    """Keep only these descriptors, and set all other attributes of a program's process."""
    for number, end in zip(PARKED, tool_ends, strict=False):
        os.dup2(end, number)
    for number, end in enumerate(ends):
        os.dup2(end, number)
    highest = os.sysconf("SC_OPEN_MAX")
    if tool_ends:
        for number, parked in zip(TOOL_ENDS, PARKED, strict=True):
            os.dup2(parked, number, inheritable=False)  # no process that the program executes gets them
        os.closerange(len(ends), TOOL_ENDS[0])
    os.closerange(TOOL_ENDS[-1] + 1 if tool_ends else len(ends), highest)
    identity.become_program()
    interpreter.libc("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)  # only now that the agent's descriptors are closed
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


class Unfiltered(OSError):
    """The kernel rejects a seccomp filter, or START names other filters than PREPARE."""


class Filters:
    """The seccomp filters that the program's process inherits from the agent, installed at most once.

    They apply in addition to the container's own filter. If several filters refuse a call, the kernel uses the error
    and the log flag of the latest: the first filter answers some calls like a kernel without them, the second makes the
    kernel log some silent denials, and keeps the program from installing filters. The agent needs none of the refused
    calls, so it has both filters too. If a filter cannot be installed, the agent fails, and no program starts.
    """

    NAMES = ("answers", "denial_log")

    def __init__(self) -> None:
        self._installed: tuple[bytes, ...] = ()

    def install(self, order: dict[str, Any]) -> None:
        """Install the filters of a PREPARE or START. Raises :class:`Unfiltered`, also if other filters are installed.

        A START without filters after a PREPARE uses the filters of the PREPARE.
        """
        if self._installed and not any(name in order for name in self.NAMES):
            return
        wanted = tuple(binascii.a2b_base64(order.get(name, "")) for name in self.NAMES)
        if not self._installed:
            self._installed = wanted
            for instructions, flags in zip(wanted, (0, SECCOMP_FILTER_FLAG_LOG), strict=True):
                install_filter(instructions, flags)
        elif wanted != self._installed:
            raise Unfiltered("the installed filters are not those that the program must have")


def install_filter(instructions: bytes, flags: int) -> None:
    """Install a filter for this process and its descendants; none without instructions. Raises :class:`Unfiltered`."""
    if instructions:
        kept = (Byte * len(instructions)).from_buffer_copy(instructions)
        program = struct.pack("HP", len(instructions) // 8, _ctypes.addressof(kept))  # struct sock_fprog
        number = SYS_SECCOMP[os.uname().machine]
        if interpreter.libc("syscall", number, SECCOMP_SET_MODE_FILTER, flags, program) != 0:
            raise Unfiltered("the kernel does not take a seccomp filter")
