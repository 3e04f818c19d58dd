"""A process with pipes of its own, and the loop that supervises it and its descendants until their end.

``agent.py`` has the theory of operation.
"""

from __future__ import annotations

import math
import os
import resource
import select
import time

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any

    from sandbox_image.agent import channel, identity, live_output
else:
    import _signal as signal  # without the enums around it, which cost more than all else that becoming a program does

    import channel
    import identity
    import live_output

CHUNK_BYTES = 60 * 1024
CPU_CHECK_SECONDS, DISK_CHECK_SECONDS = 0.05, 0.5
EXIT_UNFILTERED, EXIT_STOPPED, EXIT_AGENT_FAILED = 123, 124, 125
AGENT_PID = os.getpid()


def reap(flags: int = 0) -> tuple[int, int] | None:
    """Reap one ended child or orphan: (pid, status), or None without one."""
    try:
        pid, status = os.waitpid(-1, flags)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def kill_everything() -> dict[int, int]:
    """Send SIGKILL to every process but the agent, until all are reaped; returns their wait statuses by pid."""
    ended: dict[int, int] = {}
    while True:
        if AGENT_PID == 1:
            victims = [-1]
        else:  # not in a container: its own children, which orphans become
            with open(f"/proc/self/task/{AGENT_PID}/children") as file:
                victims = [int(pid) for pid in file.read().split()]
        for pid in victims:
            try:  # noqa: SIM105 - contextlib would have to be loaded
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if (one := reap()) is None:
            return ended
        ended[one[0]] = one[1]


def full(paths: list[str]) -> list[str]:
    """The directories whose mount has no free block or inode."""
    disks = {path: os.statvfs(path) for path in paths}
    return [path for path, d in disks.items() if (d.f_blocks and not d.f_bavail) or (d.f_files and not d.f_favail)]


def live_cpu_seconds(session: int) -> float:
    """CPU time of every live process that the program started, and of the children those have reaped."""
    ticks = 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == AGENT_PID:
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it has just ended
        if AGENT_PID == 1 or int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
    return float(ticks / os.sysconf("SC_CLK_TCK"))


def fork(enter: Callable[[tuple[int, ...]], None], start_pipe: bool = False) -> tuple[int, ...]:
    """Start a process: its pid, and our ends of its stdin, stdout, stderr and, with ``start_pipe``, of a fourth pipe.

    ``enter`` turns the forked child into the program; it gets the child's ends.
    """
    with identity.AsProgram():  # which may open its ends anew
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(4 if start_pipe else 3)]
    theirs = [pipe[number in (1, 2)] for number, pipe in enumerate(pipes)]
    ours = [pipe[number not in (1, 2)] for number, pipe in enumerate(pipes)]
    pid = os.fork()
    if pid == 0:
        try:
            enter(tuple(theirs))
        except Exception as error:  # nothing may return into the agent's code
            os.write(2, f"sandbox: cannot start the program: {error!r}\n".encode())
        os._exit(EXIT_AGENT_FAILED)
    for end in theirs:
        os.close(end)
    return (pid, *ours)


class Stdin:
    """A program's standard input: the buffered bytes, and whether more will arrive (``streamed``)."""

    def __init__(self, unfed: bytes = b"", streamed: bool = False) -> None:
        self.streamed = self._more = streamed
        self.unfed = memoryview(unfed)
        self.taken_bytes = 0

    @property
    def over(self) -> bool:
        return not self.unfed and not self._more

    def add(self, data: bytes) -> None:
        """Add a frame of the host, empty for the last. The host sends no more than the window allows."""
        if not data:
            self._more = False
        elif self._more:
            self.unfed = memoryview(bytes(self.unfed) + data)

    def take(self, size: int) -> None:
        """Record bytes written to the program's pipe."""
        self.unfed = self.unfed[size:]
        self.taken_bytes += size

    def drop(self) -> None:
        """Drop the input, since no process reads it any more."""
        self.unfed, self._more = self.unfed[:0], False


class Process:
    """The agent's side of one process: its pid, its pending input, and its open outputs by descriptor."""

    def __init__(self, forked: tuple[int, ...], stdin: Stdin, kinds: tuple[bytes, bytes]) -> None:
        self.pid, self._stdin, stdout, stderr = forked[:4]
        self.outputs = {stdout: kinds[0], stderr: kinds[1]}
        self.stdin = stdin
        for end in (self._stdin, *self.outputs):
            os.set_blocking(end, False)
        self.feed()

    def waited(self, may_read: bool) -> dict[int, int]:
        """The descriptors to poll, with their events."""
        waited = dict.fromkeys(self.outputs, select.POLLIN) if may_read else {}
        if self._stdin >= 0:
            waited[self._stdin] = select.POLLOUT if self.stdin.unfed else 0  # then for an error alone: no reader
        return waited

    def feed(self, ready: dict[int, int] | None = None) -> None:
        """Write to its stdin as much as fits, and close it at the end of the input or without a reader."""
        if self._stdin < 0:
            return
        try:
            if self.stdin.unfed:
                self.stdin.take(os.write(self._stdin, self.stdin.unfed))
            elif ready and ready.get(self._stdin, 0) & select.POLLERR:
                self.stdin.drop()
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self.stdin.drop()
        if self.stdin.over:
            self.stop_feeding()

    def stop_feeding(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
        self._stdin = -1

    def read(self, end: int) -> bytes:
        """The available bytes of an output, possibly none. Closes the output at its end."""
        try:
            data = os.read(end, CHUNK_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            os.close(end)
            del self.outputs[end]
        return data


class Execution:
    """Limits, usage and the end of one execution: its compilation, if it has one, and its program."""

    def __init__(self, pipe: channel.Channel, start: dict[str, Any], directories: list[str], stdin: Stdin) -> None:
        self.channel = pipe
        self.stdin, self._acknowledged_bytes = stdin, 0  # the program's; its compiler has none
        self.directories = directories
        self._found_full: list[str] = []
        self.cpu_limit_seconds = start["cpu_seconds"]
        self.exit_code = 0
        self.signal: int | None = None
        self.stopped: str | None = None
        self.wall_seconds = 0.0
        self.began = self._cpu_check = time.monotonic()
        self._wall_end = self.began + start["wall_seconds"]
        self._disk_check = self.began + DISK_CHECK_SECONDS
        self._usage_before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._live_at = math.inf  # monotonic: when the output of a program that is not over yet is looked after
        self._wakeup, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # only to be woken up

    def close(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._wakeup)
        os.close(signal.set_wakeup_fd(-1))

    def reaped_cpu_seconds(self) -> tuple[float, float]:
        """User and system time of all reaped processes."""
        before, now = self._usage_before, resource.getrusage(resource.RUSAGE_CHILDREN)
        return now.ru_utime - before.ru_utime, now.ru_stime - before.ru_stime

    def process(
        self,
        forked: tuple[int, ...],
        stdin: Stdin,
        kinds: tuple[bytes, bytes],
        go: Callable[[], None] | None = None,
        live: bool = False,
    ) -> None:
        """Run a forked process to its end, or stop it. Then nothing that it started is left, and its output is sent.

        ``go`` is called as the last step before the first wait: the process that it wakes may get the agent's
        processor, and an agent with work left would read the output only when the process gives the processor back.
        ``live``: the process may be a fork of this interpreter, whose thread for live output is woken here.
        """
        process = Process(forked, stdin, kinds)
        if live:
            self._live_at = time.monotonic() + live_output.PERIOD_SECONDS
        status = self._supervise(process, go)
        process.stop_feeding()
        ended = kill_everything()
        self.wall_seconds = time.monotonic() - self.began
        for end, kind in list(process.outputs.items()):
            while data := process.read(end):  # bounded: no process is left that could write more
                self.channel.send(kind, data)
        self._judge(ended[process.pid] if status is None else status)

    def rehearse(self, process: Process, stop: Callable[[], object]) -> None:
        """Go through the steps of :meth:`process` for pipes without a process, until ``stop`` has the host stop it."""
        self._supervise(process, stop)
        self._judge(0)

    def _judge(self, status: int) -> None:
        killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        over = sum(self.reaped_cpu_seconds()) >= self.cpu_limit_seconds
        if over and killed_by in (signal.SIGKILL, signal.SIGXCPU) and not self.stopped:
            self.stopped = "cpu"  # the kernel's own limit was faster than the agent
        if self.stopped:
            self.exit_code = EXIT_STOPPED
        else:
            self.signal = killed_by
            self.exit_code = 128 + killed_by if killed_by else os.WEXITSTATUS(status)

    def _supervise(self, process: Process, go: Callable[[], object] | None) -> int | None:
        """Move bytes until the process ends (its wait status) or is to be stopped (None, and ``stopped`` is set)."""
        self._plan_cpu_check(sum(self.reaped_cpu_seconds()), at_least=0.0)
        source, sink = self.channel.source, self.channel.sink
        while True:
            self._check_limits(process.pid)
            self._read_frames(process)
            self._acknowledge()
            if self.stopped:
                return None
            waited = {source: select.POLLIN, self._wakeup: select.POLLIN, **process.waited(not self.channel.busy)}
            if self.channel.busy:
                waited[sink] = select.POLLOUT
            poller = select.poll()
            for end, events in waited.items():
                poller.register(end, events)
            seconds = min(self._wall_end, self._cpu_check, self._disk_check, self._live_at) - time.monotonic()
            if go:
                go()
                go = None
            ready = dict(poller.poll(1000 * max(0.0, seconds)))
            if source in ready:
                self.channel.read()
            if sink in ready:
                self.channel.write()
            process.feed(ready)
            for end in ready.keys() & process.outputs.keys():
                if not self.channel.busy and (data := process.read(end)):
                    self.channel.put(process.outputs[end], data)
            if self._wakeup in ready:
                os.read(self._wakeup, 4096)
                while one := reap(os.WNOHANG):
                    if one[0] == process.pid:
                        return one[1]

    def _read_frames(self, process: Process) -> None:
        """Process the host's frames."""
        while frame := self.channel.next():
            if frame[0] == channel.STOP:
                self.stopped = "cancel"
            elif frame[0] == channel.STDIN:
                self.stdin.add(frame[1])
                process.feed()

    def _acknowledge(self) -> None:
        """Acknowledge the bytes in the program's pipe, so that the host sends more of a streamed stdin."""
        if self.stdin.streamed and self.stdin.taken_bytes > self._acknowledged_bytes:
            self._acknowledged_bytes = self.stdin.taken_bytes
            self.channel.put(channel.STDIN_TAKEN, {"bytes": self._acknowledged_bytes})

    def _check_limits(self, pid: int) -> None:
        now = time.monotonic()
        if now >= self._live_at:
            self._live_at = math.inf
            live_output.begin()
        if now >= self._cpu_check:
            used = sum(self.reaped_cpu_seconds()) + live_cpu_seconds(pid)
            self._plan_cpu_check(used, CPU_CHECK_SECONDS)
            if used >= self.cpu_limit_seconds:
                self.stopped = "cpu"
        if now >= self._disk_check:
            self._disk_check = now + DISK_CHECK_SECONDS
            if found := [path for path in full(self.directories) if path not in self._found_full]:
                self._found_full += found
                self.channel.put(channel.DISK_FULL, {"paths": found})
        if now >= self._wall_end:
            self.stopped = "wall"

    def _plan_cpu_check(self, used_seconds: float, at_least: float) -> None:
        """Plan the next check for the earliest time at which all cores together could use up the rest."""
        cores = len(os.sched_getaffinity(0))
        self._cpu_check = time.monotonic() + max(at_least, (self.cpu_limit_seconds - used_seconds) / cores)
