"""The agent: PID 1 of every sandbox. Standard library only; the host trusts nothing that it says.

Theory of operation
===================
The container starts long before its program is known. The agent protects itself, imports what Python programs will
want (``preload``), says READY and blocks. Then, once in its life, it runs one program:

    host                                      agent                                program
     │ ◀── READY {what the kernel grants us} ─ │
     │ ─── START {program, limits}, STDIN ───▶ │ ── fork ─────────────────────────▶ │
     │ ◀── RUNNING, STDOUT…, STDERR… ───────── │ ◀── three pipes of its own ─────── │
     │ ◀── FILE, FILE_DATA…, REJECTED… ─────── │  (everything else is dead by now)
     │ ◀── EXIT {how it ended} ─────────────── │
     │ ─── BYE ──────────────────────────────▶ │ exits with the program's code

*The pipe.* Frames travel on the agent's fd 0 and fd 1: one byte of type, four bytes of length (big endian), the
payload. The program has the agent's uid, so three things keep it off that pipe: its own fds 0 to 2 are other pipes;
the agent is not dumpable, which closes ``/proc/1/fd``, its memory and ptrace to its uid; and it ignores signals. A
program can still waste its own sandbox; then the host sees a dead agent.

*One loop* (``execution.py``) waits in poll(2) for frames from the host, output, room in the program's stdin, room in
fd 1, SIGCHLD, and the next deadline. Output is read only while nothing waits to be written: a host that reads slowly
slows the program down, and the agent holds at most two reads of it.

*The end.* When the main process ends, or a soft limit or STOP does it in, every other process gets SIGKILL and is
reaped before anything else happens. What the pipes hold is bounded then, and ``/output`` (``artifacts.py``) is still.

*Warm fork.* A Python program is not executed: the forked child unwinds out of ``main``, this module runs the
program's code as a fresh ``__main__``, and the interpreter itself ends it (threads joined, atexit, flushing, exit
code). What would make a difference to ``python3 program`` falls back to exec: see ``forkable``. Known to differ:
this module's frame is below the program's, for ``inspect.stack()`` and the count of recursions.

*Faults.* End of file on fd 0 means that the host is gone: kill everything, exit 125. The agent's own errors: one
line on fd 2, exit 125. Stopped by a limit or STOP: 124. Otherwise the program's code, or 128 + its signal.
"""

# ruff: noqa: TID251 - the environment here is the program's
from __future__ import annotations

import atexit
import binascii
import ctypes
import functools
import gc
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
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from sandbox_image.agent import artifacts, execution
else:
    import artifacts  # both lie beside this file, in the image too
    import execution

BYE_SECONDS = 10.0
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG = 1, 2
SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
PATHS = {"inputs": "/inputs", "work": "/work", "tmp": "/tmp", "output": "/output"}
# Read once, when an interpreter or a preloaded library starts: a program that sets one of these gets a new process.
START_ONLY_VARIABLES = ("PYTHON", "LANG", "LC_", "LD_", "GLIBC_", "MALLOC_", "OPENBLAS_", "OMP_", "MPL")

libc = ctypes.CDLL(None)


class BecomeProgram(BaseException):
    """Unwinds a forked child out of the agent; carries the program's source and path."""

    def __init__(self, source: bytes, path: str) -> None:
        self.source, self.path = source, path


def main(settings_path: str) -> NoReturn:
    """The agent's life. In the forked child, :class:`BecomeProgram` comes out of it."""
    protect()
    with open(settings_path, encoding="utf-8") as file:
        settings = json.load(file)
    PATHS.update(settings.get("paths", {}))  # for tests
    preload_failed = preload(settings["preload"])
    os.chdir(PATHS["work"])
    os.symlink(PATHS["inputs"], "inputs")
    channel = execution.Channel()
    channel.send(execution.READY, describe(preload_failed))

    start = json.loads(channel.expect(execution.START))
    stdin = channel.expect(execution.STDIN)
    directories = [path for name, path in PATHS.items() if name != "inputs"]
    run = execution.Execution(channel, start, directories)
    if start["compile"]:
        enter = functools.partial(become, start, start["compile"], None)
        run.process(enter, b"", (execution.COMPILE_STDOUT, execution.COMPILE_STDERR))
        channel.send(execution.COMPILED, {"exit_code": run.exit_code, "wall_seconds": run.wall_seconds})
    if run.exit_code == 0:
        enter = functools.partial(become, start, [*start["run"], *start["args"]], forkable(start))
        channel.send(execution.RUNNING, {})
        run.process(enter, stdin, (execution.STDOUT, execution.STDERR))
    disk_full = execution.full(directories)
    artifacts.collect(
        channel.send, PATHS["output"], start["artifacts"], start["artifact_bytes"], start["artifact_files"]
    )
    user_seconds, system_seconds = run.reaped_cpu_seconds()
    facts = {
        "exit_code": run.exit_code,
        "signal": run.signal,
        "stopped": run.stopped,
        "disk_full": disk_full,
        "user_seconds": user_seconds,
        "system_seconds": system_seconds,
        "wall_seconds": run.wall_seconds,
        "peak_processes": None,  # only the cgroup knows
    }
    channel.send(execution.EXIT, facts)
    channel.linger(BYE_SECONDS)
    os._exit(run.exit_code)


def protect() -> None:
    """Close the agent to the uid it shares, and its ears to signals."""
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)
    if os.getpid() != 1:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # PID 1 gets all orphans anyway


def preload(names: list[str]) -> list[str]:
    """Import what programs will want. Gives those that failed, each with its error."""
    sys.path_importer_cache.pop(sys.path.pop(0), None)  # no program can import the agent
    loaded: dict[str, types.ModuleType] = {}
    atexit.register(leave_in_place, loaded)  # first of all, so it runs last
    failed = []
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # the host decides what a failing import means
            failed.append(f"{name}: {error!r}"[:200])
    gc.collect()
    gc.freeze()  # keeps later collections off these pages, so that parent and child go on sharing them
    loaded.update(sys.modules)
    return failed


def leave_in_place(loaded: dict[str, types.ModuleType]) -> None:
    """At the end of a forked program: spare the interpreter taking apart what was loaded before it.

    That would copy most of the shared pages, a third of the time a small program takes. The program's own
    modules and objects are torn down as ever.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(loaded))  # never freed
    for name, module in loaded.items():
        if name not in ("sys", "builtins") and sys.modules.get(name) is module:
            sys.modules[name] = None  # type: ignore[assignment]  # as the interpreter itself does next


def describe(preload_failed: list[str]) -> dict[str, Any]:
    """What the kernel grants this container, for the host to compare with what it asked for."""
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    watched = {"/", "/proc", "/sys", "/dev/shm", *PATHS.values()}
    with open("/proc/self/mounts") as file:
        mounts = {fields[1]: fields[1:4] for fields in map(str.split, file) if fields[1] in watched}
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "agent": 1,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "kernel": os.uname().release,
        "caps": {name: value.strip() for name, value in status.items() if name.startswith("Cap")},
        "seccomp": int(status.get("Seccomp", 0)),
        "no_new_privs": int(status.get("NoNewPrivs", 0)),
        "mounts": list(mounts.values()),
        "limits": {name[7:].lower(): resource.getrlimit(getattr(resource, name)) for name in limits},
        "python": sys.version.split()[0],
        "preload_failed": preload_failed,
    }


def forkable(start: dict[str, Any]) -> bytes | None:
    """The program's source, when running it in a fork of this interpreter shows no difference to ``python3``."""
    path, env = start["entrypoint"], start["env"]
    if not start["fork"] or not path.endswith(".py"):
        return None
    for name in {*env, *os.environ}:
        if name.startswith(START_ONLY_VARIABLES) and env.get(name) != os.environ.get(name):
            return None
    try:
        beside = {name.partition(".")[0] for name in os.listdir(os.path.dirname(path))}
        if beside & (sys.modules.keys() - {"agent", "artifacts", "execution"}):
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
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
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
    del sys.modules["artifacts"], sys.modules["execution"]
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


def give_up(error: BaseException) -> NoReturn:
    """The agent cannot go on: leave nothing running, and one line for the host."""
    try:
        execution.kill_everything()
        if not isinstance(error, execution.HostGone):
            os.write(2, f"agent: {error!r}"[:1000].encode(errors="backslashreplace") + b"\n")
    finally:
        os._exit(execution.EXIT_AGENT_FAILED)


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "/usr/lib/mayfly/environment.json")
    except BecomeProgram as become_program:
        program = become_program
    except BaseException as error:  # PID 1 must say why it dies
        give_up(error)
    try:
        program_code = compile(program.source, program.path, "exec", dont_inherit=True)
        del program
        exec(program_code, vars(sys.modules["__main__"]))  # its purpose, in a process of its own
    except BaseException as error:
        hide_agent(error)
        raise
