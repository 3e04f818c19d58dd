"""A listener answers beside connections that send nothing, and these take few threads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import httpx2
import pytest

from orchestrator.host.listener import MOST_CONNECTIONS, SILENT_SECONDS, Handler, Listener
from tests.builders.processes.sockets import is_closed
from tests.harness import eventually

HALF = b"GET /metrics HTTP/1.1\r\nX: "


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    made = Listener("127.0.0.1", 0)
    made.start()
    yield made
    made.stop()


def scraped(listener: Listener) -> str:
    answer = httpx2.get(f"http://127.0.0.1:{listener.server_port}/metrics", timeout=60)
    assert answer.status_code == 200
    return answer.text


def test_metrics_are_served(listener: Listener) -> None:
    assert "python_info" in scraped(listener)


def test_incomplete_requests_take_few_threads_and_keep_no_scrape_out(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest are closed, so that each further connection is served."""
    monkeypatch.setattr(Handler, "timeout", 3600)
    before = threading.active_count()
    with ExitStack() as stack:
        made = []
        for _ in range(5 * MOST_CONNECTIONS):
            made.append(stack.enter_context(socket.create_connection(("127.0.0.1", listener.server_port), 60)))
            made[-1].sendall(HALF)
        for closed in made[: 4 * MOST_CONNECTIONS]:
            eventually(partial(is_closed, closed), "another took its place")
        eventually(lambda: threading.active_count() <= before + MOST_CONNECTIONS, "the threads of these have ended")
        assert "python_info" in scraped(listener)


def test_silent_connection_is_closed(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Handler.timeout == SILENT_SECONDS
    monkeypatch.setattr(Handler, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", listener.server_port), 60) as connection:
        connection.sendall(HALF)
        assert connection.recv(1) == b""


def test_client_that_hangs_up_is_no_error(listener: Listener, capfd: pytest.CaptureFixture[str]) -> None:
    threads = threading.active_count()
    for _ in range(3 * MOST_CONNECTIONS):
        with socket.create_connection(("127.0.0.1", listener.server_port), 60) as connection:
            connection.sendall(HALF)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset, not closed
    assert scraped(listener)
    eventually(lambda: threading.active_count() <= threads, "every thread has ended")
    assert capfd.readouterr() == ("", "")
