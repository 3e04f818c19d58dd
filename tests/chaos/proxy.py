"""A proxy in front of a Unix socket, which delays, cuts, half-closes and holds what passes through it."""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

RESET = struct.pack("ii", 1, 0)  # close at once, and tell the other side that all is lost
CALL = re.compile(rb"[A-Z]+ /\S* HTTP/1\.1\r\n")
SAID = b'{"message":"spoilt"}'
FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n"
FAILURE += b"Content-Length: %d\r\n\r\n%s" % (len(SAID), SAID)
Pair = tuple[socket.socket, socket.socket]


class Proxy:
    """Between clients and the server on a Unix socket; clients come by TCP, or to the Unix socket ``at``.

    ``cut_chance`` is for each answer: the server has done what it was asked, and the client sees its connection break.
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
        self._flowing, self._closed = threading.Event(), threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._pairs: set[Pair] = set()
        self._threads = [threading.Thread(target=self._accept, name="proxy")]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def hold(self) -> None:
        """Let nothing through, and break nothing: the network is cut."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let everything through again."""
        self._flowing.set()

    def cut(self) -> None:
        """Break every connection there is."""
        with self._lock:
            for pair in self._pairs:
                _reset(pair)

    def half_close(self) -> None:
        """End every stream towards the clients; what they send goes on to the server."""
        with self._lock:
            for client, _ in self._pairs:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_WR)

    def behave(self) -> None:
        """Be as good as none."""
        self.delay_seconds = self.cut_chance = 0.0
        self.flow()

    def close(self) -> None:
        self._closed.set()
        self._flowing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            while thread.is_alive():  # one that was just accepted is cut then
                self.cut()
                thread.join(0.1)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._target))
            except OSError:  # it is away
                client.close()
                server.close()
                continue
            if client.family == socket.AF_INET:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._carry, args=((client, server),), name="proxy-pair")
            with self._lock:
                self._pairs.add((client, server))
                self._threads = [thread for thread in self._threads if thread.is_alive()] + [thread]
            thread.start()

    def _carry(self, pair: Pair) -> None:
        client, server = pair
        up = threading.Thread(target=self._pump, args=(pair, client, server, False), name="proxy-up")
        up.start()
        self._pump(pair, server, client, True)
        up.join()
        with self._lock:
            self._pairs.discard(pair)
        client.close()
        server.close()

    def _pump(self, pair: Pair, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(2**16):
                self._flowing.wait()
                if self.delay_seconds:
                    time.sleep(self._chance.random() * self.delay_seconds)
                if answers and self._chance.random() < self.cut_chance and not self._closed.is_set():
                    self.cuts += 1
                    break
                if self._spoils(pair, data, answers):
                    break
                sink.sendall(data)
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
            pair[0].sendall(FAILURE)
        return spoilt

    def _is_spoilt(self, pair: Pair, call: bytes) -> bool:
        fails = self.about in call and self._chance.random() < self.fail_chance
        if fails and self._chance.random() < 0.5:
            self._spoilt.add(pair)
        elif b"/attach" in call:
            self._streams.add(pair)
        return fails and pair not in self._spoilt


def _reset(pair: Pair) -> None:
    for end in pair:
        with suppress(OSError):
            if end.family == socket.AF_INET:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.shutdown(socket.SHUT_RDWR)
