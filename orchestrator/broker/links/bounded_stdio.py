"""Tool servers on a pipe: a process whose lines are messages, with bounded lines, and a certain end.

The library's own transport buffers a line of any length, and copies the line with each piece. This transport skips a
line beyond the bound, and fails the call that the line answers; if the line does not begin with the call's id, the
connection ends. The page of a list has a lower bound, since only the definitions of tools belong there. To end a
process, the transport closes its pipe, and soon afterwards kills its whole group.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage

from orchestrator.broker.links.bounds import CATALOGUE_BYTES, LONG_MESSAGE, MOST_MESSAGES, REST, UNASKED_BYTES, Pace

TOO_LARGE = -32099  # the code of the error that stands for a message beyond the bound
MOST_GARBAGE = 100  # consecutive lines that are not messages; then the connection ends
MOST_SKIPPED = 2**30  # bytes of one line
ENDING_SECONDS = 1.0
LAST_WORDS = 10  # lines of standard error
LONGEST_WORDS = 200
ID = re.compile(rb'\A\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d{1,15})\s*,')


ToClient = MemoryObjectSendStream[SessionMessage | Exception]
ToServer = MemoryObjectReceiveStream[SessionMessage]


@dataclass(frozen=True)
class Command:
    """A process to start: its arguments, its complete environment, its directory, and its user.

    ``clean`` removes the process's resources; it is called in a thread when the process has ended.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str = "/"
    user: int | None = None
    clean: Callable[[], object] = lambda: None


class LastWords:
    """The last lines that a process wrote to its standard error."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LAST_WORDS)

    def add(self, line: bytes) -> None:
        self._lines.append(line[:LONGEST_WORDS].decode(errors="replace").rstrip())

    def __str__(self) -> str:
        return " | ".join(filter(None, self._lines))


@asynccontextmanager
async def bounded_stdio(
    command: Command, most_bytes: int, words: LastWords, on_closed: Callable[[], None]
) -> AsyncIterator[TransportStreams]:
    """Start a process, and exchange messages with it. Raises ``OSError`` if it cannot be started.

    ``on_closed`` is called at the end of its output.
    """
    identity = {} if command.user is None else {"user": command.user, "group": command.user, "extra_groups": []}
    try:
        process = await asyncio.create_subprocess_exec(
            *command.words, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=most_bytes, env=dict(command.environment),
            cwd=command.directory, start_new_session=True, umask=0o077, **identity,  # type: ignore[arg-type]
        )  # fmt: skip
    except BaseException:
        await asyncio.to_thread(command.clean)
        raise
    try:
        to_client, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        sending, to_server = anyio.create_memory_object_stream[SessionMessage](0)
        async with to_client, received, sending, to_server, anyio.create_task_group() as tasks:
            lists = set[types.RequestId]()
            tasks.start_soon(_read, process, to_client, on_closed, lists)
            tasks.start_soon(_write, process, to_server, to_client, lists)
            tasks.start_soon(_listen, process, words)
            tasks.start_soon(_watch, process, to_client, on_closed)
            try:
                yield received, sending
            finally:
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
            await asyncio.to_thread(command.clean)


async def _read(
    process: Process, to_client: ToClient, on_closed: Callable[[], None], lists: set[types.RequestId]
) -> None:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    garbage, pace = 0, Pace(MOST_MESSAGES)
    try:
        async with to_client:
            while garbage <= MOST_GARBAGE:
                await pace.keep()
                message = await _next(process.stdout, pace, lists)
                if message is None:
                    garbage += 1
                    continue
                garbage = 0
                await to_client.send(message)
    except (EOFError, ConnectionError, anyio.ClosedResourceError, anyio.BrokenResourceError):
        pass  # the library fails the calls that are open
    finally:
        on_closed()


async def _next(stream: asyncio.StreamReader, pace: Pace, lists: set[types.RequestId]) -> SessionMessage | None:
    """The next message; None for an invalid line. Raises ``EOFError`` at the end. ``lists``: the open requests for
    lists.
    """
    try:
        line = await stream.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        return await _skipped(stream)
    if len(line) > CATALOGUE_BYTES and _id(line) in lists:
        return _too_large(_id(line))
    began, is_long = time.monotonic(), len(line) > LONG_MESSAGE
    try:
        message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return None
    finally:
        if is_long:
            pace.rest(REST * (time.monotonic() - began))
    if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
        if len(line) > CATALOGUE_BYTES and message.id in lists:  # which does not begin with its id
            return _too_large(message.id)
        lists.discard(message.id)
    elif is_long:
        pace.rest(len(line) / UNASKED_BYTES)
    return SessionMessage(message)


async def _skipped(stream: asyncio.StreamReader) -> SessionMessage:
    """Skip a line beyond the bound, and return the error for its caller. Raises ``EOFError``."""
    head, skipped, ended = b"", 0, False
    while not ended:
        try:
            piece = await stream.readuntil(b"\n")
            ended = True
        except asyncio.LimitOverrunError as overrun:
            piece = await stream.readexactly(overrun.consumed)
        head, skipped = head or piece[:LONGEST_WORDS], skipped + len(piece)
        if skipped > MOST_SKIPPED:
            raise EOFError
    return _too_large(_id(head))


def _too_large(id: types.RequestId | None) -> SessionMessage:
    """The error for the caller of a request. Raises ``EOFError`` if the request is unknown."""
    if id is None:
        raise EOFError
    error = types.ErrorData(code=TOO_LARGE, message="The answer is too large.")
    return SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=id, error=error))


def _id(line: bytes) -> int | None:
    """The id with which a line begins, of the request that it answers."""
    found = ID.match(line[:LONGEST_WORDS])
    return int(found[1]) if found else None


async def _write(process: Process, to_server: ToServer, to_client: ToClient, lists: set[types.RequestId]) -> None:
    assert process.stdin is not None  # noqa: S101 - it was asked for
    try:
        async with to_server:
            async for sent in to_server:
                if isinstance(sent.message, types.JSONRPCRequest) and sent.message.method.endswith("/list"):
                    lists.add(sent.message.id)
                text = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()
    except (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError):
        await to_client.aclose()


async def _watch(process: Process, to_client: ToClient, on_closed: Callable[[], None]) -> None:
    """End the connection when the process has ended, even if a descendant keeps the pipes open.

    ``process.wait()`` waits for the pipes, too.
    """
    with suppress(ProcessLookupError):  # it has ended, and asyncio has noticed
        end = os.pidfd_open(process.pid)
        try:
            await anyio.wait_readable(end)
        finally:
            os.close(end)
    await anyio.sleep(ENDING_SECONDS)  # in which its last message is read
    on_closed()
    await to_client.aclose()


async def _listen(process: Process, words: LastWords) -> None:
    """Read standard error, so that the process can write it; keep its last lines."""
    assert process.stderr is not None  # noqa: S101 - it was asked for
    pace = Pace(MOST_MESSAGES)
    while True:
        await pace.keep()
        try:
            line = await process.stderr.readuntil(b"\n")
        except asyncio.LimitOverrunError as overrun:
            line = await process.stderr.readexactly(overrun.consumed)
        except asyncio.IncompleteReadError as end:
            words.add(end.partial)
            return
        words.add(line)


async def _end(process: Process) -> None:
    """End the process and its group; returns after their end."""
    if process.stdin is not None:
        process.stdin.close()
    with anyio.move_on_after(ENDING_SECONDS):
        await process.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.move_on_after(ENDING_SECONDS):
        await process.wait()
    if (transport := getattr(process, "_transport", None)) is not None:
        transport.close()  # a process that left the group may keep the pipes open
