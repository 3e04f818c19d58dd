"""An MCP endpoint that does what a test wants for each method, and keeps what came."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Received(NamedTuple):
    """One POST; names of headers are in lower case."""

    headers: dict[str, str]
    message: dict[str, Any]


class Exchange:
    """One POST while it is answered."""

    def __init__(self, handler: BaseHTTPRequestHandler, message: dict[str, Any]) -> None:
        self._handler = handler
        self.message = message

    def answer(
        self,
        body: bytes,
        status: int = 200,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        handler = self._handler
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def result(self, headers: Mapping[str, str] | None = None, **result: Any) -> None:
        self.answer(self._json(id=self.message["id"], result=result), headers=headers)

    def error(self, status: int, code: int, id: Any = None) -> None:
        self.answer(self._json(id=id, error={"code": code, "message": "no"}), status)

    def problem(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps({"status": status, "code": code, "detail": f"It is {code}."}).encode()
        self.answer(body, status, "application/problem+json", headers)

    def start_stream(self) -> None:
        self._handler.send_response(200)
        self._handler.send_header("Content-Type", "text/event-stream")
        self._handler.send_header("Connection", "close")
        self._handler.end_headers()

    def event(self, **message: Any) -> None:
        self._handler.wfile.write(b"event: message\r\ndata: " + self._json(**message) + b"\r\n\r\n")

    def result_event(self, **result: Any) -> None:
        self.event(id=self.message["id"], result=result)

    def wait_for_end(self) -> None:
        """Until the client has closed or shut down the connection."""
        assert self._handler.rfile.read(1) == b""

    def _json(self, **message: Any) -> bytes:
        return json.dumps({"jsonrpc": "2.0", **message}).encode()


class Endpoint:
    """``url`` is where it is; ``received`` has every POST."""

    def __init__(self, answers: Mapping[str, Callable[[Exchange], None]]) -> None:
        self._answers = answers
        self.received: list[Received] = []
        self.url = ""

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        assert handler.path == "/mcp"
        message = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.received.append(Received({name.lower(): value for name, value in handler.headers.items()}, message))
        exchange = Exchange(handler, message)
        answer = self._answers.get(message.get("method", ""))
        if answer is not None:
            answer(exchange)
        elif "id" in message and "method" in message:
            exchange.result(of=message["method"])
        else:
            exchange.answer(b"", 202)

    def headers_of(self, method: str) -> dict[str, str]:
        return next(one.headers for one in self.received if one.message.get("method") == method)


@contextmanager
def serving(**answers: Callable[[Exchange], None]) -> Iterator[Endpoint]:
    """An endpoint with an answer for each method; ``__`` in names stands for ``/``. Other methods have a result."""
    endpoint = Endpoint({name.replace("__", "/"): answer for name, answer in answers.items()})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            endpoint.take(self)

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False  # a client keeps its connections open
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        endpoint.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield endpoint
        server.shutdown()
