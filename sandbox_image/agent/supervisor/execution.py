"""The loop that supervises a process and its descendants until their end.

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

    from sandbox_image.agent.program import live_output
    from sandbox_image.agent.supervisor import channel, process
else:
    import _signal as signal  # without the enums around it, which cost more than all else that becoming a program does

    import channel
    import live_output
    import process

CPU_CHECK_SECONDS, DISK_CHECK_SECONDS = 0.05, 0.5
EXIT_UNFILTERED, EXIT_STOPPED, EXIT_AGENT_FAILED = 123, 124, process.EXIT_AGENT_FAILED
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
    """CPU time of every live process that the program started, and of the children that these have reaped."""
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


class Execution:
    """Limits, usage and the end of one execution: its compilation, if it has one, and its program."""

    def __init__(
        self, pipe: channel.Channel, start: dict[str, Any], directories: list[str], stdin: channel.Input
    ) -> None:
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

    def run_process(
        self,
        forked: tuple[int, ...],
        stdin: channel.Input,
        kinds: tuple[bytes, bytes],
        go: Callable[[], None] | None = None,
        live: bool = False,
        tools: process.ToolPipes | None = None,
    ) -> None:
        """Run a forked process to its end, or stop it. Afterwards all its processes are dead, and its output is sent.

        ``go`` is called as the last step before the first wait: the process that it wakes may take the agent's
        processor, and an agent with work left would read the output only when the process yields the processor.
        ``live``: the process may be a fork of this interpreter, whose thread for live output is woken here.
        """
        main = process.Process(forked, stdin, kinds, tools)
        if live:
            self._live_at = time.monotonic() + live_output.PERIOD_SECONDS
        status = self._supervise(main, go)
        main.stdin.close()
        ended = kill_everything()
        if tools:
            tools.close()  # not before: a program that is to be killed would find a broken pipe
        self.wall_seconds = time.monotonic() - self.began
        for end, kind in list(main.outputs.items()):
            while data := main.read(end):  # bounded: no process is left that could write more
                self.channel.send(kind, data)
        self._judge(ended[main.pid] if status is None else status)

    def rehearse(self, stand_in: process.Process, stop: Callable[[], object]) -> None:
        """Rehearse the steps of :meth:`run_process` with pipes but without a process, until ``stop`` ends it."""
        self._supervise(stand_in, stop)
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

    def _supervise(self, main: process.Process, go: Callable[[], object] | None) -> int | None:
        """Move bytes until the process ends (returns its wait status) or must be stopped (None; ``stopped`` is set)."""
        self._plan_cpu_check(sum(self.reaped_cpu_seconds()), at_least=0.0)
        source, sink = self.channel.source, self.channel.sink
        while True:
            self._check_limits(main.pid)
            self._read_frames(main)
            self._acknowledge(main.tools)
            if self.stopped:
                return None
            waited = {source: select.POLLIN, self._wakeup: select.POLLIN, **main.waited(not self.channel.busy)}
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
            main.feed(ready)
            for end in ready.keys() & main.outputs.keys():
                if not self.channel.busy and (data := main.read(end)):
                    self.channel.put(main.outputs[end], data)
            if main.tools and not self.channel.busy and (data := main.tools.read(ready)):
                self.channel.put(channel.CALL_DATA, data)
            if self._wakeup in ready:
                os.read(self._wakeup, 4096)
                while one := reap(os.WNOHANG):
                    if one[0] == main.pid:
                        return one[1]

    def _read_frames(self, main: process.Process) -> None:
        """Process the host's frames."""
        while frame := self.channel.next():
            if frame[0] == channel.STOP:
                self.stopped = "cancel"
            elif frame[0] == channel.STDIN:
                self.stdin.add(frame[1])
                main.feed()
            elif main.tools and frame[0] == channel.ANSWER_DATA:
                main.tools.answers.source.add(frame[1])
                main.feed()
            elif main.tools and frame[0] == channel.CALL_ROOM:
                main.tools.room_bytes = channel.decode(frame[1])["bytes"]

    def _acknowledge(self, tools: process.ToolPipes | None) -> None:
        """Acknowledge the bytes in the program's pipes, so that the host sends more of a streamed stdin, and of
        answers.
        """
        if self.stdin.streamed and self.stdin.taken_bytes > self._acknowledged_bytes:
            self._acknowledged_bytes = self.stdin.taken_bytes
            self.channel.put(channel.STDIN_TAKEN, {"bytes": self._acknowledged_bytes})
        if tools and (taken_bytes := tools.taken_bytes()) is not None:
            self.channel.put(channel.ANSWER_TAKEN, {"bytes": taken_bytes})

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
