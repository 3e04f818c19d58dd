"""The agent: PID 1 of every sandbox. Standard library only; the host trusts none of its frames.

Theory of operation
===================
The container starts long before its program is known. The agent protects itself, imports the modules that nearly every
program of its environment needs (``preload``), sends READY and blocks. Then it runs exactly one program:

    host                                      agent                                program
     │ ◀── READY {what the kernel grants us} ─ │
     │ ─── PREPARE {its interpreter} ────────▶ │ ── fork, wait (not always) ───────▶ │
     │ ─── START {program, limits}, STDIN ───▶ │ ── fork ─────────────────────────▶ │
     │ ◀── RUNNING, STDOUT…, STDERR… ───────── │ ◀── three pipes of its own ─────── │
     │ ◀── RESULT, RESULT_DATA… ────────────── │  (everything else is dead by now)
     │ ◀── FILE, FILE_DATA…, REJECTED… ─────── │
     │ ◀── EXIT {how it ended} ─────────────── │
     │ ─── BYE (if it is to wait for it) ────▶ │ exits with the program's code

*The pipe.* Frames travel on the agent's fd 0 and fd 1: one byte of type, four bytes of length (big endian), the
payload. If the program has the agent's uid, three measures keep it off that pipe: the program's fds 0 to 2 are other
pipes; the agent is not dumpable, which closes ``/proc/1/fd``, its memory and ptrace to its uid; and the agent ignores
signals. In gVisor these measures fail, so there the agent has another uid (``identity.py``). A program can still ruin
its own sandbox; then the host sees a dead agent.

*One loop* (``execution.py``) waits in poll(2) for frames from the host, output, room in the program's stdin, room in fd
1, SIGCHLD, and the next deadline. Output is read only while no frame waits to be written: a host that reads slowly
slows the program down, and the agent buffers at most two reads of output.

*Calls of tools* (``process.ToolPipes``). Only a program with tools has two more pipes, for its calls and for their
answers. The agent passes their bytes on unparsed. It reads calls only while the host has room for them, and the host
sends answers only as the program takes them.

*The end.* When the main process ends, or is stopped by a soft limit or STOP, every other process first gets SIGKILL and
is reaped. Then the content of the pipes is bounded, and ``/output`` (``artifacts.py``) no longer changes.

*Warm fork* (``program.py``, ``interpreter.py``). A Python program is not executed: the forked child unwinds out of
``main`` and this module ends, whereupon the interpreter runs the program's file as a fresh ``__main__``
(``main_program.py``) and ends it (threads joined, atexit, flushing, exit code; see ``ending.py``). A program that would
behave differently from ``python3 program`` is executed instead: see ``forkable``. Known differences: objects that a
program has put into a preloaded module's namespace are not torn down, and the process has a second thread, which
flushes output (``live_output.py``).

*Cells* (``cell.py``). A program that is a cell runs like every other, but ``cell.py`` runs its code: a fork calls that,
and another interpreter executes it (START names the command). Results, of cells and of other programs, are files in a
directory of the program's own, which are sent at the end (``results.py``).

*The working directory* (``working_directory.py``). Inputs are copied from ``/inputs`` into ``/work``, where the program
is run. Regular files that it leaves there are collected like those of ``/output``, except for unchanged inputs, files
of the compile step, caches and hidden files.

*Started ahead.* If the host requests it (PREPARE), the program's process is started before its program is known, set up
like every program's process, and waits for its request on a fourth pipe (``program.Ahead``): a fork of this
interpreter, or another interpreter (``wait.js``). A program that such a process cannot run gets a new process, or the
waiting process executes a new interpreter.

*Idle imports.* A fork that has waited for a while imports the modules that many programs need. A container that is used
as soon as it is made spends no CPU time on modules that its program may not need. For the same reason the agent itself
imports little, and no module that imports ``re``.

*Rehearsals.* After that fork the agent and the process share all pages, and the first write of either to a page costs a
fault: two hundred in an execution. So each rehearses its work once, unless a program has arrived (``rehearse``).

*Faults.* End of file on fd 0 means that the host is gone: kill all processes, exit 125. The agent's own errors: one
line on fd 2, exit 125, or 123 if the kernel rejects the program's seccomp filters. Stopped by a limit or STOP: exit
124. Otherwise the program's exit code, or 128 + its signal.
"""

# ruff: noqa: E402 - the collector is off before anything is loaded
from __future__ import annotations

import gc

gc.disable()  # until all is loaded: no garbage worth a look comes of that

import atexit
import os
import resource
import sys
from _functools import partial  # type: ignore[import-not-found]

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable
    from typing import Any, NoReturn

    from sandbox_image.agent.files import artifacts, globs, results, working_directory
    from sandbox_image.agent.program import ending, interpreter, main_program, program
    from sandbox_image.agent.supervisor import channel, execution, identity, process
else:
    import _signal as signal  # see execution.py

    import artifacts  # all lie beside this file, in the image too
    import channel
    import ending
    import execution
    import globs
    import identity
    import interpreter
    import main_program
    import process
    import program
    import results
    import working_directory

BYE_SECONDS = 10.0
COPIED_BYTES = 2**16  # at most, of the files that a rehearsal copies
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
SHARED_MEMORY = "/dev/shm"
ENGINE_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
PATHS = {"inputs": "/inputs", "identity": "/run/identity", "work": "/work", "tmp": "/tmp", "output": "/output"}


def main(settings_path: str) -> NoReturn:
    """The agent's life. In the forked child it raises :class:`program.BecomeProgram`."""
    protect()
    with open(settings_path, "rb") as file:
        settings = channel.decode(file.read())
    PATHS.update(settings.get("paths", {}))  # for tests
    identity.take(f"{PATHS['identity']}/passwd")
    sys.path_importer_cache.pop(sys.path.pop(0), None)  # no program can import the agent
    atexit.register(ending.leave_in_place)  # first of all, so it runs last
    interpreter.load(settings["preload"])
    with identity.AsProgram():
        os.chdir(PATHS["work"])
        os.symlink(PATHS["inputs"], working_directory.LINK)
    pipe = channel.Channel()
    pipe.send(channel.READY, describe())

    kind, payload = pipe.expect(channel.PREPARE, channel.START)
    ahead = None
    filters = program.Filters()
    if kind == channel.PREPARE:
        prepared = channel.decode(payload)
        filters.install(prepared)
        ahead = program.Ahead(prepared)
        if not pipe.ready():
            with identity.AsProgram():
                rehearse(prepared)
        payload = pipe.expect(channel.START)[1]
    start = channel.decode(payload)
    filters.install(start)
    stdin = standard_input(pipe, start)
    with identity.AsProgram():
        before = working_directory.place(PATHS["inputs"], PATHS["work"], start["copy_bytes"])
    if ahead and not ahead.takes(start):
        ahead = None
    tools = start.get("tools")
    run = execution.Execution(pipe, start, written(), stdin)  # processes reaped before are not the program's
    if start["compile"]:
        compiler, _ = process.fork(lambda ends, _: program.become_compiler(start, ends))
        run.run_process(compiler, channel.Input(), (channel.COMPILE_STDOUT, channel.COMPILE_STDERR))
        with identity.AsProgram():
            before = working_directory.known(PATHS["work"])
        pipe.send(channel.COMPILED, {"exit_code": run.exit_code, "wall_seconds": run.wall_seconds})
    if run.exit_code == 0:
        pipe.send(channel.RUNNING, {})  # before the program can do anything: in gVisor it can stop us
        kinds = (channel.STDOUT, channel.STDERR)
        if ahead:
            forked, tool_ends = ahead.forked, ahead.tool_ends
        else:
            forked, tool_ends = process.fork(partial(program.become, start), tools=bool(tools))
        pipes = process.ToolPipes(tool_ends, tools["room_bytes"]) if tools else None
        run.run_process(forked, stdin, kinds, ahead.go if ahead else None, start["fork"], pipes)
    finish(run, start, before)
    if not start.get("leave"):  # the cgroup and its counters end with the agent, unless `leave` is set
        pipe.linger(BYE_SECONDS)
    os._exit(run.exit_code)


def standard_input(pipe: channel.Channel, start: dict[str, Any]) -> channel.Input:
    """The program's standard input that is received before the program runs."""
    streamed = bool(start.get("stream_stdin"))
    return channel.Input(b"" if streamed else pipe.expect(channel.STDIN)[1], streamed)


def written() -> list[str]:
    """The directories that a program may write."""
    return [*(path for name, path in PATHS.items() if name not in ("inputs", "identity")), SHARED_MEMORY]


def finish(run: execution.Execution, start: dict[str, Any], before: dict[str, tuple[int, int]]) -> None:
    """Send the program's files, and its end. ``before``: the files in its working directory at its start."""
    pipe = run.channel
    disk_full = execution.full(run.directories)
    wanted = [globs.Glob(pattern) for pattern in start["artifacts"]]
    left = artifacts.Collection(pipe.gather, wanted, start["artifact_bytes"], start["artifact_files"])
    with identity.AsProgram():  # no process of the program is left
        if "results" in start:
            results.send(pipe.send, f"{PATHS['tmp']}/{results.NAME}", start["results"])
        left.add(PATHS["output"])
        pipe.drain()  # a long search of the working directory must not cost these files
        left.add(PATHS["work"], lambda path, about: working_directory.is_no_result(before, path, about))
    facts = {
        "exit_code": run.exit_code,
        "signal": run.signal,
        "stopped": run.stopped,
        "disk_full": disk_full,
        "unrouted": counted(start.get("counters", ())),
    }
    pipe.send(channel.EXIT, facts)


def rehearse(prepared: dict[str, Any]) -> None:
    """Rehearse the agent's work once, without a program, while no execution waits.

    After the fork of the program's process all pages are shared: the first write to each page takes a fault, and an
    execution writes to two hundred pages. The inputs may not be complete yet, so other files are copied, to a separate
    directory.
    """
    ends = [*os.pipe2(os.O_CLOEXEC), *os.pipe2(os.O_CLOEXEC), *os.pipe2(os.O_CLOEXEC), *os.pipe2(os.O_CLOEXEC)]
    source, feed, _, sink, output, printed, _, stdin_end = ends
    order = {"args": [], "compile": None, "wall_seconds": 1.0, "artifacts": ["**"]}
    disk = os.statvfs(PATHS["tmp"])
    copied_bytes = min(COPIED_BYTES, disk.f_bavail * disk.f_frsize // 2)
    order |= {"artifact_bytes": 0, "artifact_files": 0, "copy_bytes": copied_bytes}
    named = {name: prepared[name] for name in ("run", "fork", "entrypoint", "env", "cpu_seconds", "memory_bytes")}
    os.write(feed, channel.frame(channel.START, {**named, **order}) + channel.frame(channel.STDIN))
    pipe = channel.Channel(source, sink)
    start = channel.decode(pipe.expect(channel.START)[1])
    stdin = standard_input(pipe, start)
    scratch = f"{PATHS['tmp']}/.{os.getpid()}"
    os.mkdir(scratch)
    before = working_directory.place(PATHS["identity"], scratch, start["copy_bytes"])
    run = execution.Execution(pipe, start, written(), stdin)
    pipe.send(channel.RUNNING, {})
    os.write(printed, b"\n")
    stand_in = process.Process((0, os.dup(stdin_end), os.dup(output), os.dup(output)), stdin, (channel.STDOUT,) * 2)
    run.rehearse(stand_in, partial(os.write, feed, channel.frame(channel.STOP)))
    finish(run, start, before)
    run.close()
    for above, _, names in os.walk(scratch, topdown=False):  # the host may have added directories meanwhile
        for name in names:
            os.unlink(f"{above}/{name}")
        os.rmdir(above)
    for end in (*ends, *stand_in.outputs):
        os.close(end)


def protect() -> None:
    """Protect the agent from processes of its own uid, and ignore signals."""
    try:
        with open("/proc/self/loginuid", "w") as file:  # which all that it starts inherits, and nothing may set again
            file.write(str(os.getuid()))
    except OSError:
        pass  # it is set already, or the kernel has none
    interpreter.libc("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)
    if os.getpid() != 1:
        interpreter.libc("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # PID 1 gets all orphans anyway


def describe() -> dict[str, Any]:
    """The rights that the kernel grants this container, for the host to compare with the profile."""
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    watched = {"/", "/proc", "/sys", *ENGINE_FILES, SHARED_MEMORY, *PATHS.values()}
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
    }


def counted(names: Iterable[str]) -> int:
    """The sum of these counters of the kernel's network, such as ``Ip.OutNoRoutes``, minus those with a ``-``.

    At least 0. A missing counter counts as 0.
    """
    found: dict[str, str] = {}
    for path in ("/proc/self/net/snmp", "/proc/self/net/snmp6") if names else ():
        try:
            with open(path) as file:
                rows = [line.split() for line in file]
        except OSError:
            continue
        for row, below in zip(rows, [*rows[1:], []], strict=False):
            if len(row) == 2:
                found[row[0]] = row[1]
            elif row and below and row[0] == below[0]:
                names_below = zip(row[1:], below[1:], strict=False)
                found.update((row[0].replace(":", "." + name), number) for name, number in names_below)
    signed = [-int(found.get(name[1:], "0")) if name[0] == "-" else int(found.get(name, "0")) for name in names]
    return max(0, sum(signed))


def give_up(error: BaseException) -> NoReturn:
    """End all processes after an internal error, with one line for the host."""
    try:
        execution.kill_everything()
        if not isinstance(error, channel.HostGone):
            os.write(2, f"agent: {error!r}"[:1000].encode(errors="backslashreplace") + b"\n")
    finally:
        unfiltered = isinstance(error, program.Unfiltered)
        os._exit(execution.EXIT_UNFILTERED if unfiltered else execution.EXIT_AGENT_FAILED)


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "/usr/lib/mayfly/environment.json")
    except program.BecomeProgram as found:
        path, stream = found.path, found.stream  # and not the frames that the exception holds
    except BaseException as error:  # PID 1 reports the reason for its own end
        give_up(error)
    raise main_program.prepare(path, stream)
