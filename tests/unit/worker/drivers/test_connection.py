"""The kept connection to the engine: against a server whose answers are chosen by the path."""

from __future__ import annotations

import http.client
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from orchestrator.cli.commands.local.engine import Engine as LocalEngine
from orchestrator.errors import RuntimeUnavailable
from worker.drivers.docker.connection import CallFailed, Connection
from worker.drivers.docker.engine import Engine, translated

NOWHERE = "http://127.0.0.1:1"  # no program listens on this port


class Answers(BaseHTTPRequestHandler):
    """Answers by the path; ``/silent`` after the test's permission, ``/gone`` never."""

    protocol_version = "HTTP/1.1"
    server: Any

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        self.server.requests[self.path] += 1
        match self.path.removeprefix("/v1.41"):
            case "/silent":
                self.server.permitted.wait(60)
                self._reply(200, b'"late"')
            case "/gone":
                self.close_connection = True
            case "/once":
                self._reply(200, b'"last"')
                self.close_connection = True  # unannounced
            case "/garbage":
                self._reply(200, b"garbage")
            case "/missing":
                self._reply(404, b'{"message": "no such container"}')
            case "/version":
                self._reply(200, b'{"ApiVersion": "1.41", "Version": "9"}')
            case _:
                self._reply(200, b'"kept"')

    def do_POST(self) -> None:
        if self.path == "/refused":
            self._reply(409, b'{"message": "not running"}')
            return
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", self.headers["Upgrade"])
        self.end_headers()
        self.wfile.write(b"out:" + self.rfile.read(4))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def served(server: Any) -> Iterator[Any]:
    server.connections, server.requests, server.permitted = 0, Counter(), threading.Event()
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.permitted.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def engine() -> Iterator[Any]:
    class Server(ThreadingMixIn, UnixStreamServer): ...

    with tempfile.TemporaryDirectory() as directory:  # a test's own directory can be too long a path for a socket
        yield from served(Server(f"{directory}/engine.sock", Answers))


@pytest.fixture
def remote_engine() -> Iterator[Any]:
    class Server(ThreadingMixIn, TCPServer): ...

    yield from served(Server(("127.0.0.1", 0), Answers))


def connected(engine: Any, timeout_seconds: float = 60) -> Connection:
    return Connection(f"unix://{engine.server_address}", timeout_seconds)


def test_calls_share_one_connection_also_after_an_error(engine: Any) -> None:
    connection = connected(engine)
    assert connection.call("GET", "/a") == "kept"
    with pytest.raises(CallFailed, match="no such container") as failed:
        connection.call("GET", "/missing")
    assert failed.value.status == 404
    with pytest.raises(CallFailed, match="not JSON"):
        connection.call("GET", "/garbage")
    assert (connection.call("GET", "/b"), engine.connections) == ("kept", 1)


def test_connection_that_the_engine_closed_is_opened_again(engine: Any) -> None:
    connection = connected(engine)
    assert connection.call("GET", "/once") == "last"
    http_ = connection._http
    assert http_.sock
    assert http_.sock.recv(1, socket.MSG_PEEK) == b""  # the engine has closed
    assert (connection.call("GET", "/a"), engine.connections) == ("kept", 2)


def test_call_without_an_answer_fails_and_is_not_sent_again(engine: Any) -> None:
    connection = connected(engine)
    assert connection.call("GET", "/a") == "kept"
    with pytest.raises((http.client.HTTPException, OSError)):
        connection.call("GET", "/gone")
    assert engine.requests["/gone"] == 1
    assert connection.call("GET", "/a") == "kept"


def test_late_answer_is_not_taken_for_the_answer_to_the_next_call(engine: Any) -> None:
    connection = connected(engine, timeout_seconds=0.1)
    with pytest.raises(TimeoutError):
        connection.call("GET", "/silent")
    connection._http.timeout = 60
    assert connection.call("GET", "/a") == "kept"


def test_stream_carries_both_directions(engine: Any) -> None:
    with connected(engine).stream("/attach") as stream:
        stream.sendall(b"sent")
        assert b"".join(iter(lambda: stream.recv(99), b"")) == b"out:sent"


def test_refused_stream_is_an_error(engine: Any) -> None:
    with pytest.raises(CallFailed, match="not running") as failed:
        connected(engine).stream("/refused")
    assert failed.value.status == 409


def test_engine_is_reached_without_the_environment_s_proxies(
    remote_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    url = f"tcp://127.0.0.1:{remote_engine.server_address[1]}"
    engine = Engine(url, 60)
    assert engine.api().version()["Version"] == "9"
    assert engine._call("GET", "/a") == "kept"
    with LocalEngine(url) as local:
        assert local.answers()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/gone", http.client.HTTPException), ("/missing", CallFailed), ("/garbage", CallFailed)],
)
def test_errors_of_the_connection_are_translated(engine: Any, path: str, kind: type[Exception]) -> None:
    made = Engine(f"unix://{engine.server_address}", 60)
    with pytest.raises(RuntimeUnavailable, match="failed to inspect") as raised, translated("inspect"):
        made._call("GET", path)
    assert isinstance(raised.value.__cause__, kind)
    assert engine.requests[f"/v1.41{path}"] == 1
