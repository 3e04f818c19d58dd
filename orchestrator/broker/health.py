"""The broker's metrics and health over HTTP: ``/metrics``, ``/livez``, and ``/readyz`` while its lease is valid."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from orchestrator.broker.lease import Lease
from orchestrator.broker.serving import Serving

STATUS = {200: "200 OK", 404: "404 Not Found", 503: "503 Service Unavailable"}


class Health:
    """A listener with its own threads. ``port`` is the port in use; 0 picks a free port."""

    def __init__(self, host: str, port: int, lease: Lease, serving: Serving, lacking: tuple[str, ...] = ()) -> None:
        self._lease, self._serving, self._lacking = lease, serving, lacking
        self._metrics = make_wsgi_app()
        self._server = make_server(host, port, self._answer, _Server, _Quiet)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return self._metrics(environ, start)  # type: ignore[no-any-return]
        ready = self._lease.is_valid()
        status = {"/livez": 200, "/readyz": 200 if ready else 503}.get(path, 404)
        start(STATUS[status], [("Content-Type", "application/json")])
        found = {"lease": ready, "tool_servers": self._serving.states(), "lacking": self._lacking}
        return [json.dumps(found).encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
