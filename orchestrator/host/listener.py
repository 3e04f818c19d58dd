"""Listeners without keys, for metrics and health, which take few threads and descriptors of their process.

Each connection has a thread, and may stay open without sending a request. So there are at most ``MOST_CONNECTIONS``;
another connection closes the oldest. A scrape, which takes milliseconds, is answered beside any number of incomplete
requests.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from prometheus_client import make_wsgi_app

MOST_CONNECTIONS = 8
SILENT_SECONDS = 10.0  # of a client, until its connection is closed


class Handler(WSGIRequestHandler):
    """Serves one request of a connection."""

    timeout = SILENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class Listener(ThreadingMixIn, WSGIServer):
    """Serves a WSGI application, by default the metrics of this process. Port 0: a free port (``server_port``)."""

    daemon_threads = True

    def __init__(self, host: str, port: int, application: WSGIApplication | None = None) -> None:
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._connections: dict[socket.socket, None] = {}  # the oldest first
        self._lock = threading.Lock()
        super().__init__((host, port), Handler)
        self.set_app(application or make_wsgi_app())
        self._thread = threading.Thread(target=self.serve_forever, name="listener", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread; at the bound, close the oldest, whose thread then ends."""
        with self._lock:
            if len(self._connections) >= MOST_CONNECTIONS:
                oldest = next(iter(self._connections))
                del self._connections[oldest]
                with suppress(OSError):  # the client has closed it
                    oldest.shutdown(socket.SHUT_RDWR)
            self._connections[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report errors except those of a connection, which clients cause."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
