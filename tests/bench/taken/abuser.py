"""The tenant that abuses, in a process of its own: ``python -m tests.bench.taken.abuser PORT NAME``.

Reads a key from the first line of its standard input, and does what :mod:`.abuses` names until that ends.
Then it prints, as JSON, how often its executions ended in which way.
"""

from __future__ import annotations

import collections
import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator

from tests.bench.systems.mayfly import EXECUTIONS, WAIT_SECONDS
from tests.bench.taken.abuses import ABUSES, Abuse
from tests.bench.wire import Refused, Wire

UPLOAD_BYTES = 32 * 2**20
READ_BYTES = 16 * 2**20
REPORTED = ("refused ", "bounded ")  # see the prelude of all abuses
Ends = collections.Counter[str]


class Abuser:
    """One abuse, until it is over."""

    def __init__(self, port: int, token: str) -> None:
        self._address, self._token = ("127.0.0.1", port), token
        self._port = port
        self.over = threading.Event()
        self.ends: Ends = collections.Counter()

    def programs(self, abuse: Abuse) -> None:
        """One sandbox after another."""
        with Wire(self._port, self._token) as wire:
            while not self.over.is_set():
                try:
                    ended = wire.post(EXECUTIONS, abuse.body(), WAIT_SECONDS)
                except Refused as error:
                    self.ends[str(error)[:60]] += 1
                    self.over.wait(1)
                    continue
                printed = {
                    " ".join(line.split()[:2])
                    for line in ended["stdout"].splitlines()[:64]
                    if line.startswith(REPORTED)
                }
                self.ends[", ".join([ended["reason"] or ended["state"], *sorted(printed)])] += 1
                if abuse.once:
                    self.over.wait()

    def uploads(self) -> None:
        """Bodies that stop just before their end."""
        head = f"PUT /api/v1/blobs HTTP/1.1\r\nHost: x\r\nContent-Length: {UPLOAD_BYTES}\r\n{self._key}\r\n"
        with self._connections(10) as opened:
            for one in opened:
                self._push(one, head.encode() + bytes(UPLOAD_BYTES - 2**20))
            self.over.wait()

    def readers(self) -> None:
        """Answers that are asked for and not read."""
        self._asked(f"{EXECUTIONS}/{self._much()}/stdout")

    def followers(self) -> None:
        """Event streams that are opened and not read."""
        self._asked(f"{EXECUTIONS}/{self._much()}/stream")

    def lists(self) -> None:
        """Lists with a filter that nothing meets."""

        def ask() -> None:
            with Wire(self._port, self._token) as wire:
                while not self.over.is_set():
                    try:
                        wire.get(f"{EXECUTIONS}?label=none:there&limit=200")
                        self.ends["answered"] += 1
                    except Refused as error:
                        self.ends[str(error)[:3]] += 1  # the status

        threads = [threading.Thread(target=ask) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def headers(self) -> None:
        """Requests whose headers do not end."""
        with self._connections(20) as opened:
            for one in opened:
                self._push(one, b"GET /livez HTTP/1.1\r\n" + b"X-A: b\r\n" * 2**17)
            self.over.wait()

    @property
    def _key(self) -> str:
        return f"Authorization: Bearer {self._token}\r\n"

    def _much(self) -> str:
        """An execution that printed as much as one may."""
        body = {
            "environment": "python",
            "code": f"import os\nfor _ in range({READ_BYTES // 2**16}): os.write(1, bytes(2**16))",
            "limits": {"output_bytes": READ_BYTES},
        }
        with Wire(self._port, self._token) as wire:
            return str(wire.post(EXECUTIONS, body, WAIT_SECONDS)["id"])

    def _asked(self, path: str) -> None:
        with self._connections(20) as opened:
            for one in opened:
                self._push(one, f"GET {path} HTTP/1.1\r\nHost: x\r\n{self._key}\r\n".encode())
            self.over.wait()

    def _push(self, connection: socket.socket, data: bytes) -> None:
        """Send what is taken; notes an end that the other side makes of it."""
        try:
            connection.sendall(data)
            self.ends["taken"] += 1
        except OSError as error:
            self.ends[type(error).__name__] += 1

    @contextlib.contextmanager
    def _connections(self, count: int) -> Iterator[list[socket.socket]]:
        opened = []
        for _ in range(count):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what is not read stays with the server
            one.settimeout(5)
            one.connect(self._address)
            opened.append(one)
        try:
            yield opened
        finally:
            for one in opened:
                one.close()


def main(port: int, name: str) -> None:
    """Abuse until standard input ends."""
    abuse, abuser = ABUSES[name], Abuser(port, sys.stdin.readline().strip())

    def await_end() -> None:
        sys.stdin.read()
        abuser.over.set()

    threading.Thread(target=await_end, daemon=True).start()
    client: Callable[[], None] | None = getattr(abuser, abuse.client) if abuse.client else None
    if client:
        client()
    else:
        abuser.programs(abuse)
    print(json.dumps(abuser.ends))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
