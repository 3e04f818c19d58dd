"""Raw connections to an API, and the memory of a process."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.harness import eventually

MIB = 2**20


class Answer(NamedTuple):
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The body of a refusal, which is a problem document."""
        assert self.headers["content-type"] == "application/problem+json", self
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        assert {"type", "title", "detail", "code", "request_id"} <= set(found)
        return found


def connect(port: int, source: str = "127.0.0.1", seconds: float = 60) -> socket.socket:
    """A connection from one of the loopback's addresses."""
    return socket.create_connection(("127.0.0.1", port), seconds, (source, 0))


def exchange(port: int, request: bytes, source: str = "127.0.0.1") -> Answer:
    """Send bytes and read until the server closes; a server that reads no more is no error."""
    with connect(port, source) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)
        return answer_of(connection)


def answer_of(connection: socket.socket) -> Answer:
    """The one answer that comes before the server closes, or resets for bytes that came after its answer."""
    found = b""
    with suppress(ConnectionResetError):
        while more := connection.recv(65536):
            found += more
    head, _, body = found.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, body)


@contextmanager
def connections(port: int, count: int, request: bytes, source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """So many connections, each with those bytes sent and nothing read."""
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            made.append(stack.enter_context(connect(port, source)))
            with suppress(BrokenPipeError, ConnectionResetError):
                made[-1].sendall(request)
        yield made


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed it, unanswered."""
    connection.settimeout(0.05)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def await_read(port: int, made: Iterable[socket.socket]) -> None:
    """Wait until the server on that port has read all that was sent on these connections, as the kernel counts it."""
    names = (one.getsockname() for one in made)
    ours = {f"{socket.inet_aton(host)[::-1].hex().upper()}:{number:04X}" for host, number in names}

    def read() -> bool:
        rows = (line.split()[1:5] for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        queues = {other: queue for own, other, _, queue in rows if own.endswith(f":{port:04X}")}
        return all(queues.get(one, "").endswith(":00000000") for one in ours)

    eventually(read, "the server has read what was sent")


def resident_bytes(pid: int, field: str = "RssAnon") -> int:
    """The resident memory of a process, by default without page cache."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {field}")


def peak_growth(pid: int, action: Callable[[], object]) -> int:
    """How much the memory of a process grows during an action, at most."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins with what is resident now
    before = resident_bytes(pid, "VmHWM")
    action()
    return resident_bytes(pid, "VmHWM") - before


def head(method: str, path: str, key: str, length: int, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def unread(port: int, path: str, key: str, count: int, stack: ExitStack) -> list[socket.socket]:
    """So many requests of which the beginning of the answer is there, and nothing more is read."""
    made = []
    for _ in range(count):
        connection = stack.enter_context(socket.socket())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", port))
        connection.sendall(head("GET", path, key, 0))
        assert connection.recv(12) == b"HTTP/1.1 200"
        made.append(connection)
    return made
