"""Requests to the engine, each on a connection of its own, with answers of bounded size."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import h11

READ_BYTES = 64 * 1024
MOST_ANSWER_BYTES = 32 * 2**20
LONGEST_SECONDS = 300  # of a call for which no client waits
JSON = "application/json"
SWITCHED = 101


class EngineGone(Exception):
    """The engine does not answer, or breaks off."""


class ClientGone(Exception):
    """The client has closed its connection, and waits for no answer."""


class Answer(NamedTuple):
    """An answer of the engine; ``rest`` has bytes behind the head of an upgraded connection."""

    status: int
    content_type: str = JSON
    body: bytes = b""
    rest: bytes = b""


class Engine:
    """The engine at a Unix socket. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def connect(self) -> socket.socket:
        """A new connection. Raises :class:`EngineGone`."""
        connected = socket.socket(socket.AF_UNIX)
        try:
            connected.connect(str(self._path))
        except OSError as error:
            connected.close()
            raise EngineGone(str(error)) from error
        return connected

    def ask(self, method: str, target: str, body: bytes = b"", client: socket.socket | None = None) -> Answer:
        """Send one request. Raises :class:`EngineGone`; :class:`ClientGone` when ``client`` hangs up.

        Without ``client`` the call is completed in any case, within a bound of time.
        """
        with self.connect() as connected:
            return ask(connected, method, target, body, client=client)

    def load(self, archive: Path) -> Answer:
        """Load an image from its archive. Raises :class:`EngineGone`, and ``OSError`` for the archive."""
        http = h11.Connection(h11.CLIENT)
        with archive.open("rb") as file, self.connect() as connected:
            length = archive.stat().st_size
            headers = [("Host", "engine"), ("Content-Type", "application/x-tar"), ("Content-Length", str(length))]
            head = h11.Request(
                method="POST", target="/images/load?quiet=1", headers=[*headers, ("Connection", "close")]
            )
            connected.sendall(http.send(head) or b"")
            connected.sendfile(file)
            return _answer(http, connected, None)


def ask(
    connected: socket.socket,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    client: socket.socket | None = None,
    upgrade: bool = False,
) -> Answer:
    """Send one request over a connection. Raises :class:`EngineGone` and :class:`ClientGone`."""
    http = h11.Connection(h11.CLIENT)
    headers = [("Host", "engine"), ("Content-Length", str(len(body)))]
    headers += [("Content-Type", JSON)] if body else []
    headers += [("Connection", "Upgrade"), ("Upgrade", "tcp")] if upgrade else [("Connection", "close")]
    parts = [http.send(h11.Request(method=method, target=target, headers=headers))]
    parts += [http.send(h11.Data(data=body))] if body else []
    parts += [http.send(h11.EndOfMessage())]
    with suppress(OSError):  # the answer may be there nevertheless
        connected.sendall(b"".join(part for part in parts if part))
    return _answer(http, connected, client)


def _answer(http: h11.Connection, connected: socket.socket, client: socket.socket | None) -> Answer:
    status, content_type, body = 0, "", bytearray()
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    if client is not None:
        poll.register(client, select.POLLRDHUP)
    while True:
        try:
            event = http.next_event()
            if event is h11.NEED_DATA:
                ready = [descriptor for descriptor, _ in poll.poll(None if client else LONGEST_SECONDS * 1000)]
                if not ready:
                    raise EngineGone(f"The engine did not answer within {LONGEST_SECONDS} s.")
                if connected.fileno() not in ready:
                    raise ClientGone
                http.receive_data(connected.recv(READ_BYTES))
                continue
        except (OSError, h11.RemoteProtocolError) as error:
            raise EngineGone(str(error)) from error
        if isinstance(event, h11.InformationalResponse) and event.status_code == SWITCHED:
            return Answer(SWITCHED, rest=http.trailing_data[0])
        if isinstance(event, h11.Response):
            status = event.status_code
            content_type = dict(event.headers).get(b"content-type", JSON.encode()).decode("ascii", "replace")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MOST_ANSWER_BYTES:
                raise EngineGone("The answer is too large.")
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, content_type, bytes(body))
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            raise EngineGone("The engine closed the connection.")
