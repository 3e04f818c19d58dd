"""A proxy in front of a Unix socket, which delays, cuts, half-closes and holds what passes through it."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

RESET = struct.pack("ii", 1, 0)  # close with a reset
CALL = re.compile(rb"[A-Z]+ /\S* HTTP/1\.1\r\n")
MESSAGE = b'{"message":"spoilt"}'
FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n"
FAILURE += b"Content-Length: %d\r\n\r\n%s" % (len(MESSAGE), MESSAGE)
Pair = tuple[StreamWriter, StreamWriter]  # to the client, to the server


class Proxy:
    """Between clients and the server on a Unix socket; clients come by TCP, or to the Unix socket ``at``.

    ``cut_chance`` is for each answer: the server has done what it was asked, and the client sees its connection break.
    One thread carries all.
    """

    def __init__(self, target: Path, seed: int = 0, at: Path | None = None) -> None:
        self._target, self._chance = target, random.Random(seed)
        if at is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
        else:
            self._listener = socket.create_server(str(at), family=socket.AF_UNIX)
        self.delay_seconds = self.cut_chance = 0.0
        self.cuts = 0
        self._flowing, self._closed = asyncio.Event(), asyncio.Event()
        self._flowing.set()
        self._pairs: set[Pair] = set()
        self._half_closed: set[StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), name="proxy")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def hold(self) -> None:
        """Let nothing through, and break nothing: the network is cut."""
        self._have(self._flowing.clear)

    def flow(self) -> None:
        """Let everything through again."""
        self._have(self._flowing.set)

    def cut(self) -> None:
        """Break every connection there is."""
        self._have(self._cut)

    def half_close(self) -> None:
        """End every stream towards the clients; what they send still reaches the server."""
        self._have(self._half_close)

    def behave(self) -> None:
        """Be as good as none."""
        self.delay_seconds = self.cut_chance = 0.0
        self.flow()

    def close(self) -> None:
        self.flow()
        self._have(self._closed.set)
        self._thread.join()
        self._loop.close()

    def _have(self, act: Callable[[], object]) -> None:
        """Has the proxy's thread do this, and returns when it is done."""

        async def done() -> None:
            act()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result()

    def _cut(self) -> None:
        for pair in self._pairs:
            _reset(pair)

    def _half_close(self) -> None:
        for client, _ in self._pairs:
            with suppress(OSError):
                client.write_eof()
                self._half_closed.add(client)

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._carry, sock=self._listener):
            await self._closed.wait()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            self._cut()  # also one that was just accepted
            await asyncio.wait(others, timeout=0.1)

    async def _carry(self, from_client: StreamReader, client: StreamWriter) -> None:
        try:
            from_server, server = await asyncio.open_unix_connection(str(self._target))
        except OSError:  # it is away
            client.transport.abort()
            return
        pair = client, server
        for end in pair:
            end.transport.set_write_buffer_limits(0)  # what has been drained is the kernel's, and no cut takes it back
        self._pairs.add(pair)
        await asyncio.gather(self._pump(pair, from_client, server, False), self._pump(pair, from_server, client, True))
        self._pairs.discard(pair)
        self._half_closed.discard(client)

    async def _pump(self, pair: Pair, source: StreamReader, sink: StreamWriter, answers: bool) -> None:
        try:
            while data := await source.read(2**16):
                await self._flowing.wait()
                if self.delay_seconds:
                    await asyncio.sleep(self._chance.random() * self.delay_seconds)
                if answers and self._chance.random() < self.cut_chance and not self._closed.is_set():
                    self.cuts += 1
                    break
                if self._spoils(pair, data, answers) or sink in self._half_closed:
                    break
                sink.write(data)
                await sink.drain()
        except OSError:
            pass  # it was cut, or one side went away
        finally:
            _reset(pair)

    def _spoils(self, pair: Pair, data: bytes, answers: bool) -> bool:
        """Whether this goes no further, and the connection ends here."""
        return False


class EngineProxy(Proxy):
    """In front of a container engine: calls with ``about`` in their line are answered with 500 at ``fail_chance``.

    Of every two such calls, the engine has done one. What passes through a container's stream is left alone.
    """

    def __init__(self, target: Path, at: Path, seed: int = 0) -> None:
        self.fail_chance, self.about = 0.0, b""
        self.failed = 0
        self._spoilt: set[Pair] = set()  # the answer that comes is
        self._streams: set[Pair] = set()
        self._url = f"unix://{at}"
        super().__init__(target, seed, at)
        at.chmod(0o600)  # else a worker refuses the host

    @property
    def url(self) -> str:
        return self._url

    def behave(self) -> None:
        self.fail_chance, self.about = 0.0, b""
        super().behave()

    def _spoils(self, pair: Pair, data: bytes, answers: bool) -> bool:
        if answers:
            spoilt = pair in self._spoilt
        elif pair not in self._streams and (call := CALL.match(data)):
            spoilt = self._is_spoilt(pair, call[0])
        else:
            return False
        if spoilt:
            self.failed += 1
            pair[0].write(FAILURE)
        return spoilt

    def _is_spoilt(self, pair: Pair, call: bytes) -> bool:
        fails = self.about in call and self._chance.random() < self.fail_chance
        if fails and self._chance.random() < 0.5:
            self._spoilt.add(pair)
        elif b"/attach" in call:
            self._streams.add(pair)
        return fails and pair not in self._spoilt


def _reset(pair: Pair) -> None:
    for writer in pair:
        end: socket.socket = writer.get_extra_info("socket")
        with suppress(OSError):  # it is closed
            if end.family == socket.AF_INET:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
