"""The broker's metrics and health over HTTP: ``/metrics``, ``/livez``, and ``/readyz`` while its lease is valid."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import make_wsgi_app

from orchestrator.broker.lease import Lease
from orchestrator.broker.serving import Serving
from orchestrator.host.listener import Listener

STATUS = {200: "200 OK", 404: "404 Not Found", 503: "503 Service Unavailable"}


class Health(Listener):
    """A listener with its own threads. ``server_port`` is the port in use; port 0 picks a free port."""

    def __init__(self, host: str, port: int, lease: Lease, serving: Serving, lacking: tuple[str, ...] = ()) -> None:
        super().__init__(host, port, self._answer)
        self._lease, self._serving, self._lacking = lease, serving, lacking
        self._metrics = make_wsgi_app()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return self._metrics(environ, start)  # type: ignore[no-any-return]
        ready = self._lease.is_valid()
        status = {"/livez": 200, "/readyz": 200 if ready else 503}.get(path, 404)
        start(STATUS[status], [("Content-Type", "application/json")])
        found = {"lease": ready, "tool_servers": self._serving.states(), "lacking": self._lacking}
        return [json.dumps(found).encode()]
