"""A worker's transfers to an API that is slow, and to servers that are no API of this version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import httpx2
import pytest

from orchestrator.errors import BlobsFull, BlobsUnavailable, StaleAttempt
from orchestrator.store.content import remote
from orchestrator.store.content.remote import ApiBlobs

DIGEST, EXECUTION = "0" * 64, "e" * 32
PROBLEM = "application/problem+json"


class Server(ThreadingHTTPServer):
    """Gives each request the same answer; a ``PUT`` once ``ready`` is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.type, self.body, self.encoding = 204, "", b"", "identity"
        self.ready = Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.ready.wait()
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.type)
        self.send_header("Content-Encoding", self.server.encoding)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = Thread(target=made.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            made.ready.set()
            made.shutdown()
            thread.join()


@pytest.fixture
def blobs(server: Server) -> Iterator[ApiBlobs]:
    with closing(ApiBlobs(f"http://127.0.0.1:{server.server_port}", "token", None, 2**20)) as made:
        yield made


def test_last_piece_has_more_time_than_others(server: Server, blobs: ApiBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API answers the last piece only after it has stored the whole artifact."""
    monkeypatch.setattr(remote, "TIME_OUT", httpx2.Timeout(0.05))
    with pytest.raises(BlobsUnavailable, match="cannot be reached"):  # the control
        blobs.send(EXECUTION, 1, f"upload-{'0' * 32}", 0, b"x", pauses=())
    sending = Thread(target=blobs.send, args=(EXECUTION, 1, f"upload-{'0' * 32}", 0, b"x", DIGEST, ()))
    sending.start()
    sending.join(0.5)
    assert sending.is_alive(), "the request timed out like others"
    server.ready.set()
    sending.join()


@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("text/html", b"<h1>404</h1>"),
        (PROBLEM, b"no JSON"),
        (PROBLEM, b"[]"),
        (PROBLEM, b'{"code": "not_found"}'),
        ("text/html", b'{"code": "CODE"}'),
    ],
    ids=["of a proxy", "no JSON", "no object", "of another version", "another type"],
)
def test_other_404_is_no_statement_about_the_content(
    server: Server, blobs: ApiBlobs, tmp_path: Path, type: str, body: bytes
) -> None:
    server.ready.set()
    server.status, server.type = 404, type
    server.body = body.replace(b"CODE", b"blob_not_found")
    with pytest.raises(BlobsUnavailable, match="404"):
        blobs.fetch("t", DIGEST, tmp_path / "fetched")
    server.body = body.replace(b"CODE", b"attempt_not_owner")
    with pytest.raises(BlobsUnavailable, match="404"):
        blobs.write_output(EXECUTION, 1, "stdout", 0, b"x")


def test_stable_codes_are_statements_about_the_content(server: Server, blobs: ApiBlobs, tmp_path: Path) -> None:
    server.ready.set()
    server.status, server.type = 404, PROBLEM
    server.body = json.dumps({"code": "blob_not_found"}).encode()
    assert not blobs.fetch("t", DIGEST, tmp_path / "fetched")
    server.body = json.dumps({"code": "attempt_not_owner"}).encode()
    with pytest.raises(StaleAttempt):
        blobs.write_output(EXECUTION, 1, "stdout", 0, b"x")


def test_worker_learns_that_the_api_has_no_room(server: Server, blobs: ApiBlobs) -> None:
    blobs.check_writable()
    server.status, server.type, server.body = 503, PROBLEM, b'{"code": "blobs_full"}'
    with pytest.raises(BlobsFull):
        blobs.check_writable()
    server.body = b'{"code": "store_unavailable"}'
    with pytest.raises(BlobsUnavailable, match="503") as refused:
        blobs.check_writable()
    assert not isinstance(refused.value, BlobsFull)


def test_refusal_has_the_same_words_each_time(server: Server, blobs: ApiBlobs) -> None:
    """Each change of the words is logged, and an answer names its request."""
    found = set()
    for request in ("a", "b"):
        server.status, server.type = 503, PROBLEM
        server.body = json.dumps({"code": "store_unavailable", "request_id": request}).encode()
        with pytest.raises(BlobsUnavailable) as refused:
            blobs.check_writable()
        found.add(refused.value.message)
    assert len(found) == 1


def test_older_api_without_the_route_has_room(server: Server, blobs: ApiBlobs) -> None:
    server.status, server.type, server.body = 404, PROBLEM, b'{"code": "not_found"}'
    blobs.check_writable()
    server.type = "text/html"
    with pytest.raises(BlobsUnavailable, match="404"):  # the control: of a proxy
        blobs.check_writable()


def test_damaged_answer_is_an_outage(server: Server, blobs: ApiBlobs) -> None:
    server.body, server.encoding = b"no gzip", "gzip"
    server.status = 200
    with pytest.raises(BlobsUnavailable):
        blobs.check_writable()
