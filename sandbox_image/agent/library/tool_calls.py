"""A program's calls of tools: the line to the host, over two pipes with which the program was started.

Theory of operation
===================
A call is one message on the first pipe, its answer one message on the second: two lengths of four bytes (big endian), a
header and a body of JSON. The header's ``seq`` identifies the call. Calls are sent whole and one after the other, at
most ``at_once`` without their answer; further calls wait here.

Any number of threads may call. One of the waiting threads reads for all of them (``_reading``), so a program has only
threads that it has started itself. While no thread reads, event loops read, each while it has open calls.

A child made by fork has no line: it closes its copies of the pipes; an executed program finds them closed. A process
that was interrupted while it wrote or read a message has no line either, since the next message would be misread.
"""

from __future__ import annotations

import json
import os
import select
import stat
import struct
import threading
from collections import deque

TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CALLS, ANSWERS = 14, 15  # descriptors; see program.py
BOUNDS = "/tools/bounds.json"
BUILT_IN = "mayfly"  # the server of calls that Mayfly itself answers
LENGTHS = struct.Struct(">II")
READ_BYTES = 2**16
NO_TOOLS = "This execution has no tools. Name those that it may call in `tools` when you submit it."
NOT_FIRST = "Only the program's first process can call tools. Call them there, and pass the results on."
INTERRUPTED = "A call was interrupted while it was sent or received; this process can call no more tools."
ENDED = "The host has closed the line for tools."


class ToolError(Exception):
    """A call of a tool that has no result.

    ``code`` is stable, such as ``tool_unknown``; ``valid_parameters`` and ``did_you_mean`` are names, possibly none.
    """

    def __init__(self, code: str, message: str, valid_parameters: Any = (), did_you_mean: Any = ()) -> None:
        super().__init__(code, message, valid_parameters, did_you_mean)
        self.code, self.message = code, message
        self.valid_parameters, self.did_you_mean = tuple(valid_parameters), tuple(did_you_mean)

    def __str__(self) -> str:
        lists = {"Did you mean": self.did_you_mean, "Valid parameters": self.valid_parameters}
        more = "".join(f" {name}: {', '.join(map(str, names))}." for name, names in lists.items() if names)
        return f"{self.code}: {self.message}{more}"


ToolError.__module__ = "mayfly"


def unavailable(message: str) -> ToolError:
    """The error of a call that cannot be made."""
    return ToolError("tool_unavailable", message)


class Call:
    """One call. ``notify`` is called, with the line's lock, once the answer has arrived."""

    def __init__(self, header: dict[str, str], body: bytes, notify: Callable[[], object] | None) -> None:
        self.header, self.body, self.notify = header, body, notify
        self.answer: tuple[bool, bytes] | None = None

    def result(self) -> Any:
        """The tool's result. Raises :class:`ToolError`."""
        if self.answer is None:
            raise unavailable(ENDED)
        is_result, body = self.answer
        if is_result:
            return json.loads(body)
        raise ToolError(**json.loads(body))


class Line:
    """The program's line to the host. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._opened = self._reading = False
        self._broken = ""  # why it cannot be used
        self._at_once, self._request_bytes = 8, 2**20
        self._seq = 0
        self._open: dict[int, Call] = {}
        self._waiting: deque[Call] = deque()
        self._received = bytearray()
        self._loops: dict[Any, int] = {}
        os.register_at_fork(after_in_child=self._leave)

    def call(self, server: str, tool: str, arguments: dict[str, Any]) -> Any:
        """Call a tool and wait for its result. Raises :class:`ToolError`."""
        call = self._begin(server, tool, arguments)
        while not self._is_over(call):
            try:
                self._poller.poll()
            finally:
                with self._changed:
                    self._reading = False
                    self._changed.notify_all()
            self._receive()
        return call.result()

    async def call_async(self, server: str, tool: str, arguments: dict[str, Any]) -> Any:
        """Call a tool and await its result in an event loop. Raises :class:`ToolError`."""
        import asyncio

        loop = asyncio.get_running_loop()
        answered = loop.create_future()

        def resolve() -> None:
            if not answered.done():
                answered.set_result(None)

        def wake() -> None:
            try:  # noqa: SIM105 - contextlib would have to be loaded
                loop.call_soon_threadsafe(resolve)
            except RuntimeError:
                pass  # the loop was closed while the call was open

        call = self._begin(server, tool, arguments, wake)
        if not self._loops.get(loop):
            loop.add_reader(ANSWERS, self._receive, True)
        self._loops[loop] = self._loops.get(loop, 0) + 1
        try:
            await answered
        finally:
            self._loops[loop] -= 1
            if not self._loops[loop]:
                del self._loops[loop]
                loop.remove_reader(ANSWERS)
        return call.result()

    def _begin(
        self, server: str, tool: str, arguments: dict[str, Any], notify: Callable[[], object] | None = None
    ) -> Call:
        try:
            body = json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ToolError("tool_arguments_invalid", f"The arguments are not plain data: {error}.") from None
        call = Call({"server": server, "tool": tool}, body, notify)
        with self._changed:
            self._need()
            if len(body) > self._request_bytes:
                bound = f"a call may have at most {self._request_bytes}"
                raise ToolError("tool_bytes_exceeded", f"The arguments have {len(body)} bytes; {bound}.")
            if len(self._open) < self._at_once:
                self._send(call)
            else:
                self._waiting.append(call)
        return call

    def _need(self) -> None:
        """Open the line. Raises :class:`ToolError` if there is none."""
        if not self._opened and not self._broken:
            try:
                with open(BOUNDS, encoding="utf-8") as file:
                    bounds = json.load(file)
            except OSError:
                raise unavailable(NO_TOOLS) from None
            if os.getpid() != os.getsid(0) or not all(map(is_pipe, (CALLS, ANSWERS))):
                raise unavailable(NOT_FIRST)
            self._at_once, self._request_bytes = bounds["at_once"], bounds["request_bytes"]
            os.set_blocking(ANSWERS, False)
            self._poller = select.poll()
            self._poller.register(ANSWERS, select.POLLIN)
            self._opened = True
        if self._broken:
            raise unavailable(self._broken)

    def _is_over(self, call: Call) -> bool:
        """Whether the call has its answer, or will get none; if not, this thread must read."""
        with self._changed:
            while call.answer is None and not self._broken and self._reading:
                self._changed.wait()
            if call.answer is not None or self._broken:
                return True
            self._reading = True
            return False

    def _send(self, call: Call) -> None:
        self._seq += 1
        self._open[self._seq] = call
        header = json.dumps({"seq": self._seq, **call.header}).encode()
        rest = memoryview(LENGTHS.pack(len(header), len(call.body)) + header + call.body)
        self._broken = INTERRUPTED
        try:
            while rest:
                rest = rest[os.write(CALLS, rest) :]
        except OSError:
            self._end(ENDED)
            return
        self._broken = ""

    def _receive(self, in_loop: bool = False) -> None:
        """Receive the answers that have arrived, unless a thread reads already."""
        with self._changed:
            if self._broken or (in_loop and self._reading):
                return
            self._broken = INTERRUPTED
            try:
                data = os.read(ANSWERS, READ_BYTES)
            except BlockingIOError:
                self._broken = ""
                return
            if not data:
                self._end(ENDED)
                return
            self._received += data
            for seq, answer in iter(self._next, None):
                if call := self._open.pop(seq, None):
                    self._give(call, answer)
            self._broken = ""
            while self._waiting and len(self._open) < self._at_once and not self._broken:
                self._send(self._waiting.popleft())

    def _next(self) -> tuple[int, tuple[bool, bytes]] | None:
        """The next complete answer."""
        if len(self._received) < LENGTHS.size:
            return None
        header_bytes, body_bytes = LENGTHS.unpack_from(self._received)
        middle = LENGTHS.size + header_bytes
        if len(self._received) < middle + body_bytes:
            return None
        header = json.loads(self._received[LENGTHS.size : middle])
        body = bytes(self._received[middle : middle + body_bytes])
        del self._received[: middle + body_bytes]
        return header["seq"], (header["ok"], body)

    def _give(self, call: Call, answer: tuple[bool, bytes] | None) -> None:
        call.answer = answer
        self._changed.notify_all()
        if call.notify:
            call.notify()

    def _end(self, why: str) -> None:
        """Fail the open calls, since no further answer will arrive."""
        self._broken = why
        for call in (*self._open.values(), *self._waiting):
            self._give(call, None)
        self._open.clear()
        self._waiting.clear()

    def _leave(self) -> None:
        """In a child that was forked: only the parent has the line."""
        self._changed = threading.Condition()
        self._broken = NOT_FIRST
        self._open.clear()
        self._waiting.clear()
        for end in (CALLS, ANSWERS) if self._opened else ():
            try:  # noqa: SIM105 - contextlib would have to be loaded
                os.close(end)
            except OSError:
                pass  # the program has closed it


def is_pipe(end: int) -> bool:
    """Whether a descriptor is a pipe."""
    try:
        return stat.S_ISFIFO(os.fstat(end).st_mode)
    except OSError:
        return False


line = Line()


def search_tools(query: str, **options: Any) -> Any:
    """The tools that this execution may call and that match a query, the best first.

    ``options``: ``server``, ``detail`` (``names``, ``signatures`` or ``definitions``), ``limit``, ``max_tokens``.
    Raises :class:`ToolError`.
    """
    return line.call(BUILT_IN, "search_tools", {"query": query, **options})
