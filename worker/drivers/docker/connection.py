"""A kept connection to the engine, for the calls that every container needs.

docker-py takes four times the CPU time for such a call, and connects anew for each container. The engine may close the
connection between two calls, for example when it restarts; then the next call connects again. No call is sent twice.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import weakref
from typing import Any
from urllib.parse import urlsplit

JSON = {"Content-Type": "application/json"}
UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}
SWITCHED, REFUSED = http.client.SWITCHING_PROTOCOLS, http.client.BAD_REQUEST


class CallFailed(Exception):
    """The engine answered with an error. ``status`` is that of HTTP; the text is the engine's, for the operator."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(f"{status}: {detail}")


class Connection:
    """One connection, for one thread. Every method raises :class:`CallFailed`, ``OSError`` and ``HTTPException``."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        """``url``: as in ``MAYFLY_DOCKER_URL``, ``unix:///path`` or ``tcp://host:port``."""
        self._url, self._timeout_seconds = url, timeout_seconds
        self._http = _connection(url, timeout_seconds)
        weakref.finalize(self, self._http.close)  # a thread that ends closes nothing itself

    def call(self, method: str, path: str, document: Any = None) -> Any:
        """The engine's answer to a call, from JSON; ``None`` for an answer without a body."""
        if self._http.sock is not None and _has_ended(self._http.sock):
            self._http.close()
        body, headers = (None, {}) if document is None else (json.dumps(document), JSON)
        try:
            self._http.request(method, path, body, headers)
            with self._http.getresponse() as response:
                data = response.read()
        except BaseException:  # the rest of this answer must not be taken for the next call's
            self._http.close()
            raise
        if response.status >= REFUSED:
            raise CallFailed(response.status, data.decode(errors="replace"))
        try:
            return json.loads(data) if data else None
        except ValueError as error:
            raise CallFailed(response.status, "The answer is not JSON.") from error

    def stream(self, path: str) -> socket.socket:
        """The connected byte stream of a container that has not started, over a connection of its own."""
        http_ = _connection(self._url, self._timeout_seconds)
        try:
            http_.request("POST", path, headers=UPGRADE)
            with http_.getresponse() as response:
                if response.status != SWITCHED:
                    raise CallFailed(response.status, response.read().decode(errors="replace"))
            stream, http_.sock = http_.sock, None
        finally:
            http_.close()
        stream.settimeout(None)
        return stream


class _UnixConnection(http.client.HTTPConnection):
    """A connection over a Unix socket."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(url: str, timeout_seconds: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _UnixConnection(parts.path, timeout_seconds)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.netloc, timeout=timeout_seconds)


def _has_ended(connected: socket.socket) -> bool:
    """Whether the peer has closed, or sent bytes for which no call asked."""
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))
