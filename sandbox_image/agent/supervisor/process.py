"""A process of the program, and the agent's ends of its pipes.

``agent.py`` has the theory of operation. A program with tools has two pipes in addition to its standard pipes
(:class:`ToolPipes`). The agent never waits for the program to read or to write them, and passes their bytes on
unparsed; ``README.md`` describes the messages under "Calls of tools".
"""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox_image.agent.supervisor import channel, identity
else:
    import channel
    import identity

CHUNK_BYTES = 60 * 1024
EXIT_AGENT_FAILED = 125


def fork(
    enter: Callable[[tuple[int, ...], tuple[int, ...]], None], start_pipe: bool = False, tools: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Start a process. Returns its pid, and our ends of its stdin, stdout, stderr and, with ``start_pipe``, of a fourth
    pipe; with ``tools`` also our ends of the pipes of its calls and their answers.

    ``enter`` turns the forked child into the program; it gets the child's ends, and separately the ends for tools.
    """
    outward = [False, True, True, *([False] if start_pipe else []), *([True, False] if tools else [])]
    with identity.AsProgram():  # which may open its ends anew
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in outward]
    theirs = tuple(pipe[out] for pipe, out in zip(pipes, outward, strict=True))
    ours = tuple(pipe[not out] for pipe, out in zip(pipes, outward, strict=True))
    count = len(outward) - 2 * tools
    pid = os.fork()
    if pid == 0:
        try:
            enter(theirs[:count], theirs[count:])
        except Exception as error:  # nothing may return into the agent's code
            os.write(2, f"sandbox: cannot start the program: {error!r}\n".encode())
        os._exit(EXIT_AGENT_FAILED)
    for end in theirs:
        os.close(end)
    return (pid, *ours[:count]), ours[count:]


class Inlet:
    """A pipe into the process: our end, and the bytes that go into it."""

    def __init__(self, end: int, source: channel.Input) -> None:
        self._end, self.source = end, source
        os.set_blocking(end, False)
        self.feed()

    def waited(self) -> dict[int, int]:
        """The descriptor to poll, with its events."""
        if self._end < 0:
            return {}
        return {self._end: select.POLLOUT if self.source.unfed else 0}  # only for an error: without a reader

    def feed(self, ready: dict[int, int] | None = None) -> None:
        """Write as much as fits, and close the pipe at the end of the bytes or without a reader."""
        if self._end < 0:
            return
        try:
            if self.source.unfed:
                self.source.take(os.write(self._end, self.source.unfed))
            elif ready and ready.get(self._end, 0) & select.POLLERR:
                self.source.drop()
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self.source.drop()
        if self.source.over:
            self.close()

    def close(self) -> None:
        if self._end >= 0:
            os.close(self._end)
        self._end = -1


class ToolPipes:
    """The agent's ends of the pipes of a program's calls and of their answers.

    It reads calls only as far as the host has room for them (``room_bytes`` since the start), so a program that makes
    too many calls waits in its own write.
    """

    def __init__(self, ends: tuple[int, ...], room_bytes: int) -> None:
        self._calls, answers = ends
        os.set_blocking(self._calls, False)
        self.answers = Inlet(answers, channel.Input(streamed=True))
        self.room_bytes = room_bytes
        self._read_bytes = self._acknowledged_bytes = 0

    def waited(self, may_read: bool) -> dict[int, int]:
        """The descriptors to poll, with their events."""
        waited = self.answers.waited()
        if may_read and self._calls >= 0 and self._read_bytes < self.room_bytes:
            waited[self._calls] = select.POLLIN
        return waited

    def read(self, ready: dict[int, int]) -> bytes:
        """The written bytes of calls for which the host has room, possibly none."""
        if self._calls not in ready:
            return b""
        try:
            data = os.read(self._calls, min(CHUNK_BYTES, self.room_bytes - self._read_bytes))
        except BlockingIOError:
            return b""
        if not data:  # no process of the program has the pipe open
            os.close(self._calls)
            self._calls = -1
        self._read_bytes += len(data)
        return data

    def taken_bytes(self) -> int | None:
        """The number of answer bytes in the program's pipe, unless the host already has this number."""
        if self.answers.source.taken_bytes == self._acknowledged_bytes:
            return None
        self._acknowledged_bytes = self.answers.source.taken_bytes
        return self._acknowledged_bytes

    def close(self) -> None:
        if self._calls >= 0:
            os.close(self._calls)
        self._calls = -1
        self.answers.close()


class Process:
    """The agent's side of one process: its pid, its pending input, its open outputs by descriptor, its calls."""

    def __init__(
        self,
        forked: tuple[int, ...],
        stdin: channel.Input,
        kinds: tuple[bytes, bytes],
        tools: ToolPipes | None = None,
    ) -> None:
        self.pid, stdin_end, stdout, stderr = forked[:4]
        self.outputs = {stdout: kinds[0], stderr: kinds[1]}
        for end in self.outputs:
            os.set_blocking(end, False)
        self.stdin = Inlet(stdin_end, stdin)
        self.tools = tools

    def waited(self, may_read: bool) -> dict[int, int]:
        """The descriptors to poll, with their events."""
        waited = dict.fromkeys(self.outputs, select.POLLIN) if may_read else {}
        waited.update(self.stdin.waited())
        if self.tools:
            waited.update(self.tools.waited(may_read))
        return waited

    def feed(self, ready: dict[int, int] | None = None) -> None:
        """Write to its pipes as much as fits."""
        self.stdin.feed(ready)
        if self.tools:
            self.tools.answers.feed(ready)

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
