"""The command line's client of the container engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from orchestrator.cli.commands.local.engine import Engine, EngineImage, EngineUnreachable

IMAGE = EngineImage("sha256:0", ("mayfly/old:1",), 1, False, False)


class Answering(BaseHTTPRequestHandler):
    """Answers everything with one status."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with Engine(f"tcp://127.0.0.1:{server.server_address[1]}") as made:
                yield made
        finally:
            server.shutdown()


@pytest.mark.parametrize(("status", "removed"), [(200, True), (404, True), (409, False)])
def test_image_is_removed_or_in_use(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, status: int, removed: bool
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    assert engine.remove_image(IMAGE) is removed


@pytest.mark.parametrize("status", [307, 403, 500])
def test_refusal_is_an_error_that_names_the_engine_s_answer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    for ask in (lambda: engine.remove_image(IMAGE), lambda: engine.remove("0"), engine.info):
        with pytest.raises(EngineUnreachable, match=f"answered {status}"):
            ask()
    assert engine.answers() is (status < 500)
