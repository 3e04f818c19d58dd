"""One message of an MCP client on its way to the API: its connection, which another thread may shut down."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from orchestrator.cli.commands.agents.messages import Message


class Cancelled(Exception):
    """The client has cancelled the request, or has disconnected."""


class Delivery:
    """One message on its way, which another thread may cancel."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the client no longer waits for the answer."""
        return self._cancelled.is_set()

    def attach(self, connection: socket.socket | None) -> None:
        """Set the connection that carries the message; ``None`` once the connection carries another message."""
        with self._lock:
            self._socket = connection
            if self.is_cancelled:
                self._shut_down()

    def cancel(self) -> None:
        """Shut the connection down, now or as soon as it is set."""
        with self._lock:
            self._cancelled.set()
            self._shut_down()

    def pause(self, seconds: float) -> None:
        """Wait. Raises :class:`Cancelled`."""
        if self._cancelled.wait(seconds):
            raise Cancelled

    def _shut_down(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # the connection has ended by itself
                self._socket.shutdown(socket.SHUT_RDWR)
