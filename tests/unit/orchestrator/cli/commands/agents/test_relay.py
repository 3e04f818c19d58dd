"""The relay of `mayfly mcp` against an endpoint that answers in every way."""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any, BinaryIO

import pytest

from mayfly.exchange import Token
from orchestrator.cli.commands.agents import relay as relay_module
from orchestrator.cli.commands.agents.messages import CANCELLED, FAILED, INVALID_REQUEST, PARSE_ERROR
from orchestrator.cli.commands.agents.relay import MAX_OPEN, Relay
from tests.builders.tools.mcp_endpoint import Endpoint, Exchange, serving

MODERN = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
SECONDS = 20


class Client:
    """An MCP client with a relay that runs in a thread; ``close`` ends the relay's input."""

    def __init__(self, url: str, token: Token = "t") -> None:
        read, write = os.pipe()
        self._source: BinaryIO = os.fdopen(read, "rb")
        self._input: BinaryIO = os.fdopen(write, "wb", buffering=0)
        self.lines: queue.Queue[dict[str, Any]] = queue.Queue()
        relay = Relay(url, token, lambda line: self.lines.put(json.loads(line)))
        self._thread = threading.Thread(target=relay.run, args=(self._source,), daemon=True)
        self._thread.start()

    def send(self, method: str, id: int | str | None = None, **params: Any) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if id is None else {"id": id})
        self.write(json.dumps(message).encode())

    def write(self, line: bytes) -> None:
        self._input.write(line + b"\n")

    def next(self) -> dict[str, Any]:
        return self.lines.get(timeout=SECONDS)

    def ask(self, method: str, id: int | str = 1, **params: Any) -> dict[str, Any]:
        self.send(method, id, **params)
        answer = self.next()
        assert answer["id"] == id
        return answer

    def close(self) -> list[dict[str, Any]]:
        """End the input; what came since the last read."""
        self._input.close()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        self._source.close()
        return list(self.lines.queue)


@pytest.fixture
def closing() -> Iterator[Any]:
    clients: list[Client] = []

    def make(endpoint: Endpoint | str, **options: Any) -> Client:
        clients.append(Client(endpoint if isinstance(endpoint, str) else endpoint.url, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def initialize(exchange: Exchange) -> None:
    exchange.result({"Mcp-Session-Id": "s1"}, protocolVersion="2025-11-25", capabilities={})


def test_older_client_agrees_on_a_version_first(closing: Any) -> None:
    with serving(initialize=initialize) as endpoint:
        client = closing(endpoint, token="key")
        info = {"name": "claude-code", "version": "2.1"}
        assert client.ask("initialize", protocolVersion="2025-11-25", clientInfo=info)["result"]["capabilities"] == {}
        client.send("notifications/initialized")
        assert client.ask("tools/call", "a", name="execute_code")["result"] == {"of": "tools/call"}
        assert client.close() == []
    assert "mcp-protocol-version" not in endpoint.headers_of("initialize")
    for method in ("notifications/initialized", "tools/call"):
        found = endpoint.headers_of(method)
        assert (found["mcp-protocol-version"], "mcp-method" in found) == ("2025-11-25", False)
        assert (found["authorization"], found["user-agent"]) == ("Bearer key", "claude-code/2.1 mayfly")
        assert found["mcp-session-id"] == "s1"


def test_token_that_ends_is_renewed_between_messages(closing: Any) -> None:
    tokens = map(str, count(1))
    with serving() as endpoint:
        client = closing(endpoint, token=lambda: next(tokens))
        client.ask("tools/list", 1, **MODERN)
        client.ask("tools/list", 2, **MODERN)
    assert [one.headers["authorization"] for one in endpoint.received[:2]] == ["Bearer 1", "Bearer 2"]


def test_newer_client_names_version_method_and_tool_with_each_request(closing: Any) -> None:
    with serving() as endpoint:
        client = closing(endpoint)
        client.ask("server/discover", **MODERN)
        client.ask("tools/call", 2, name="execute_code", **MODERN)
    found = endpoint.headers_of("tools/call")
    names = ("mcp-protocol-version", "mcp-method", "mcp-name")
    assert [found[name] for name in names] == ["2026-07-28", "tools/call", "execute_code"]


def test_client_falls_back_to_the_older_era(closing: Any) -> None:
    with serving(server__discover=lambda exchange: exchange.error(400, -32601), initialize=initialize) as endpoint:
        client = closing(endpoint)
        assert client.ask("server/discover", **MODERN)["error"]["code"] == -32601
        client.ask("initialize", 2)
        client.ask("tools/list", 3)
    assert "mcp-protocol-version" not in endpoint.headers_of("initialize")
    assert endpoint.headers_of("tools/list")["mcp-protocol-version"] == "2025-11-25"


def test_requests_are_served_at_once(closing: Any) -> None:
    asked_again = threading.Event()

    def slow(exchange: Exchange) -> None:
        assert asked_again.wait(SECONDS)
        exchange.result(slow=True)

    with serving(slow=slow) as endpoint:
        client = closing(endpoint)
        client.send("slow", 1)
        assert client.ask("ping", 2)["result"] == {"of": "ping"}
        asked_again.set()
        assert client.next() == {"jsonrpc": "2.0", "id": 1, "result": {"slow": True}}


def test_events_are_relayed_as_they_come(closing: Any) -> None:
    seen = threading.Event()

    def stream(exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.event(method="notifications/progress", params={"progress": 1})
        assert seen.wait(SECONDS)
        exchange.result_event(text="line\nbreak")

    with serving(tools__call=stream) as endpoint:
        client = closing(endpoint)
        client.send("tools/call", 5)
        assert client.next()["method"] == "notifications/progress"
        seen.set()
        assert client.next() == {"jsonrpc": "2.0", "id": 5, "result": {"text": "line\nbreak"}}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("modern", [True, False])
def test_cancelled_request_closes_its_connection_and_is_not_answered(
    streamed: bool, modern: bool, closing: Any
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(exchange: Exchange) -> None:
        if streamed:
            exchange.start_stream()
            exchange.event(method="notifications/progress", params={})
        begun.set()
        exchange.wait_for_end()
        ended.set()

    meta = MODERN if modern else {}
    with serving(tools__call=endless) as endpoint:
        client = closing(endpoint)
        client.send("tools/call", 5, **meta)
        assert begun.wait(SECONDS)
        client.send(CANCELLED, requestId="5")  # the id of another
        client.ask("ping", 6, **meta) if not streamed else client.next()
        assert not ended.is_set()
        client.send(CANCELLED, requestId=5)
        assert ended.wait(SECONDS)
        if streamed:
            client.ask("ping", 6, **meta)
        assert client.close() == []
    forwarded = [one.message for one in endpoint.received if one.message["method"] == CANCELLED]
    assert len(forwarded) == (0 if modern else 2)


def test_end_of_input_gives_short_requests_time_and_cancels_long_requests() -> None:
    ended = threading.Event()

    def endless(exchange: Exchange) -> None:
        exchange.start_stream()
        exchange.event(method="notifications/progress", params={})
        exchange.wait_for_end()
        ended.set()

    with serving(tools__call=endless) as endpoint:
        client = Client(endpoint.url)
        client.send("tools/call", 1)
        client.next()
        client.send("ping", 2)
        assert [one["id"] for one in client.close()] == [2]
        assert ended.wait(SECONDS)


def test_request_beyond_the_bound_is_refused(closing: Any) -> None:
    release = threading.Event()

    def wait(exchange: Exchange) -> None:
        assert release.wait(SECONDS)
        exchange.result()

    with serving(wait=wait) as endpoint:
        client = closing(endpoint)
        for number in range(MAX_OPEN):
            client.send("wait", number)
        refused = client.ask("wait", "more")["error"]
        assert f"{MAX_OPEN} requests are open" in refused["message"]
        release.set()
        assert {client.next()["id"] for _ in range(MAX_OPEN)} == set(range(MAX_OPEN))
        assert client.ask("ping", "later")["result"]


@pytest.mark.parametrize(
    ("line", "code"), [(b"{", PARSE_ERROR), (b"[]", INVALID_REQUEST), (b'{"a": "' + b"a" * 300 + b'"}', PARSE_ERROR)]
)
def test_lines_that_are_no_message_are_answered(
    line: bytes, code: int, closing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MAX_MESSAGE_BYTES", 256)
    with serving() as endpoint:
        client = closing(endpoint)
        client.write(b"")
        client.write(line)
        assert client.next()["error"]["code"] == code
        assert client.ask("ping")["result"]
    assert len(endpoint.received) == 1


def test_unreachable_api_is_an_answer(closing: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    client = closing(url)
    error = client.ask("initialize")["error"]
    assert error["code"] == FAILED
    assert f"The Mayfly API at {url} does not answer" in error["message"]
    assert error["data"] == {"code": "api_unreachable"}


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (401, "unauthenticated", "MAYFLY_TOKEN"),
        (403, "forbidden", "It is forbidden."),
        (404, "not_found", "MAYFLY_MCP_ENABLED"),
        (500, "internal", "It is internal."),
    ],
)
def test_refusal_is_an_answer_with_advice(status: int, code: str, advice: str, closing: Any) -> None:
    with serving(ping=lambda exchange: exchange.problem(status, code, {"X-Request-Id": "r1"})) as endpoint:
        error = closing(endpoint).ask("ping")["error"]
    assert (error["code"], error["data"]["status"]) == (FAILED, status)
    assert advice in error["message"]


def test_error_of_the_endpoint_gets_the_missing_id(closing: Any) -> None:
    with serving(ping=lambda exchange: exchange.error(400, -32020)) as endpoint:
        assert closing(endpoint).ask("ping", "x")["error"]["code"] == -32020


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"a": 1}'])
def test_answer_that_is_no_message_is_an_error(body: bytes, closing: Any) -> None:
    with serving(ping=lambda exchange: exchange.answer(body)) as endpoint:
        error = closing(endpoint).ask("ping")["error"]
    assert error["data"]["code"] == ("api_unreachable" if not body else "no_mayfly")


def test_stream_that_ends_before_its_answer_is_an_error(closing: Any) -> None:
    with serving(tools__call=lambda exchange: exchange.start_stream()) as endpoint:
        client = closing(endpoint)
        assert "ended before the answer" in client.ask("tools/call")["error"]["message"]
    assert len(endpoint.received) == 1  # it may have run: it is not sent again


def test_end_of_a_subscription_is_a_cancellation(closing: Any) -> None:
    with serving(subscriptions__listen=lambda exchange: exchange.start_stream()) as endpoint:
        client = closing(endpoint)
        client.send("subscriptions/listen", 9, **MODERN)
        assert client.next() == {"jsonrpc": "2.0", "method": CANCELLED, "params": {"requestId": 9}}


def test_refusal_for_now_is_tried_again(closing: Any) -> None:
    def first_full(exchange: Exchange) -> None:
        if len(endpoint.received) == 1:
            exchange.problem(503, "queue_full", {"Retry-After": "1"})
        else:
            exchange.result(tries=len(endpoint.received))

    with serving(ping=first_full) as endpoint:
        begun = time.monotonic()
        assert closing(endpoint).ask("ping")["result"] == {"tries": 2}
        assert time.monotonic() - begun >= 1


def test_notification_that_cannot_be_delivered_is_reported_on_standard_error(
    closing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.problem(401, "unauthenticated")

    with serving(**{"notifications/initialized": refuse}) as endpoint:
        client = closing(endpoint)
        client.send("notifications/initialized")
        assert client.close() == []
    assert "notifications/initialized was not delivered: It is unauthenticated." in capsys.readouterr().err
