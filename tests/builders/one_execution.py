"""An API with one ended execution as given by a test, for tests of the command's output."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STREAM = b'id: 1\nevent: stdout\ndata: {"text": "1\\n"}\n\nid: 2\nevent: done\ndata: {}\n\n'
LIMITS = {
    "wall_seconds": 5.0,
    "cpu_seconds": 5.0,
    "cpu_cores": 1.0,
    "memory_bytes": 512 * 2**20,
    "processes": 64,
    "disk_bytes": 2**20,
    "output_bytes": 2**20,
}


def ended(state: str = "succeeded", reason: str | None = None, fault: str | None = None, **more: Any) -> dict[str, Any]:
    """A record, as far as the command reads it."""
    base: dict[str, Any] = {
        "id": "x",
        "state": state,
        "reason": reason,
        "fault": fault,
        "limits": LIMITS,
        "artifacts": [],
    }
    return {**base, "exit_code": 0, "finished_at": "2026-01-31T12:00:00Z", **more}


@contextmanager
def serving(execution: dict[str, Any], artifact: bytes = b"") -> Iterator[str]:
    """The URL of an API that answers everything with that execution, and every artifact with those bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(json.dumps(execution).encode(), "application/json")

        def do_GET(self) -> None:
            if self.path.endswith("/stream"):
                self._answer(STREAM, "text/event-stream")
            elif "/artifacts/" in self.path:
                self._answer(artifact, "application/octet-stream")
            else:
                self._answer(json.dumps(execution).encode(), "application/json")

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
