"""Older clients: sessions that name calls, cancellation by a message, and malformed messages."""

from __future__ import annotations

import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.builders.mcp_calls import LEGACY, Agent
from tests.harness import Process, Stack, bearer, eventually, free_port

ALL = ("mcp", "executions:read", "executions:write")
LONGEST = 200
PROGRAM = {"name": "execute_code", "arguments": {"code": "1", "wait_seconds": 50}}


class Client:
    """A client with a session; ``id`` is that of its calls."""

    def __init__(self, api: Stack, id: str | int = 7, **headers: str) -> None:
        self._api, self._id = api, id
        self._headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": LEGACY, **headers}

    def initialize(self) -> Client:
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        answer = self.post({"id": 1, "method": "initialize", "params": params})
        assert answer.json()["result"]["protocolVersion"] == LEGACY
        self._headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]
        return self

    def like(self, id: str | int | None = None, **headers: str) -> Client:
        return Client(self._api, self._id if id is None else id, **{**self._headers, **headers})

    def post(self, message: dict[str, Any], url: str = "") -> httpx2.Response:
        return self._api.client.post(f"{url}/mcp", json={"jsonrpc": "2.0", **message}, headers=self._headers)

    def call(self) -> str:
        """The state of the execution at the end of its call."""
        answer = self.post({"id": self._id, "method": "tools/call", "params": PROGRAM})
        state: str = answer.json()["result"]["structuredContent"]["state"]
        return state

    def cancel(self, url: str = "") -> None:
        params = {"requestId": self._id, "reason": "The user does not want it."}
        assert self.post({"method": "notifications/cancelled", "params": params}, url).status_code == 202


@pytest.fixture
def client(api: Stack) -> Client:
    tenant = f"legacy-{free_port()}"
    return Client(api, **api.headers_of(tenant, *ALL)).initialize()


def begun(api: Stack, client: Client, pool: ThreadPoolExecutor) -> Future[str]:
    """A call whose execution is in the queue."""
    call = pool.submit(client.call)
    headers = {"Authorization": client._headers["Authorization"]}
    eventually(
        lambda: api.client.get("/api/v1/executions", params={"state": "queued"}, headers=headers).json()["items"],
        "the execution is queued",
    )
    return call


@pytest.fixture
def second_api(api: Stack, tmp_path: Path) -> Any:
    """The address of another API process of the same installation."""
    port = free_port()
    process = Process(
        [sys.executable, "-m", "orchestrator.api"], {**api.env, "MAYFLY_API_PORT": str(port)}, tmp_path / "api-2.log"
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return api.client.get(f"{url}/livez").status_code == 200
        except httpx2.TransportError:
            return False

    try:
        eventually(answers, "the second API process answers", 180)
        yield url
    finally:
        process.stop()


def test_cancellation_stops_the_call_in_any_api_process(api: Stack, client: Client, second_api: str) -> None:
    for url in ("", second_api):
        with ThreadPoolExecutor(1) as pool:
            call = begun(api, client, pool)
            client.cancel(url)
            assert call.result(60) == "cancelled"


def test_cancellation_that_comes_first_stops_the_call(api: Stack, client: Client) -> None:
    client.cancel()
    assert client.call() == "cancelled"


def test_only_the_same_session_key_and_id_cancel_a_call(api: Stack, client: Client) -> None:
    tenant = f"legacy-{free_port()}"
    keys = [api.new_key(*ALL, tenant=tenant)["secret"] for _ in range(2)]
    owner = client.like(**bearer(keys[0]))
    with ThreadPoolExecutor(1) as pool:
        call = begun(api, owner, pool)
        owner.like(id="7").cancel()
        owner.like(id=8).cancel()
        owner.like(**bearer(keys[1])).cancel()  # another key of the tenant
        client.cancel()  # another tenant
        owner.like(**{"Mcp-Session-Id": "another"}).cancel()
        owner.like(**{"Mcp-Session-Id": ""}).cancel()
        owner.like(**{"Mcp-Session-Id": "x" * 1000}).cancel()
        assert not call.done()
        owner.cancel()
        assert call.result(60) == "cancelled"


def test_cancellation_needs_the_right_to_cancel(api: Stack) -> None:
    reader = Client(api, **api.headers_of("legacy-reader", "mcp", "executions:read")).initialize()
    refused = reader.post({"method": "notifications/cancelled", "params": {"requestId": 7}})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_each_client_gets_a_session_of_its_own_and_other_methods_none(api: Stack) -> None:
    first, second = Client(api).initialize(), Client(api).initialize()
    assert first._headers["Mcp-Session-Id"] != second._headers["Mcp-Session-Id"]
    assert "mcp-session-id" not in first.post({"id": 1, "method": "tools/list"}).headers
    assert "mcp-session-id" not in first.post({"id": 1, "method": "initialize", "params": {}}).headers


@pytest.mark.parametrize(
    "params", [None, {}, {"requestId": None}, {"requestId": [7]}, {"requestId": 10**400}, {"requestId": "9" * 5000}]
)
def test_cancellation_without_a_usable_id_is_acknowledged(api: Stack, client: Client, params: Any) -> None:
    assert client.post({"method": "notifications/cancelled", "params": params}).status_code in (202, 400)


def raw(api: Stack, body: bytes, **headers: str) -> httpx2.Response:
    usual = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    return api.client.post(
        "/mcp", content=body, headers={**usual, **{k.replace("_", "-"): v for k, v in headers.items()}}
    )


def ping(id: str) -> bytes:
    return f'{{"jsonrpc":"2.0","id":{id},"method":"ping"}}'.encode()


@pytest.mark.parametrize(
    "id", ["9" * 5000, "9" * 400, f"{2**64}", f'"{"x" * (LONGEST + 1)}"', "null", "true", "1.5", "[]"]
)
def test_ids_are_bounded_and_of_two_types(api: Stack, id: str) -> None:
    answer = raw(api, ping(id))
    assert (answer.status_code, answer.json()["id"]) == (400, None)
    assert answer.json()["error"]["code"] in (-32700, -32600)
    assert len(answer.content) < 400


@pytest.mark.parametrize("id", ["0", "-1", f"{2**63}", '""', f'"{"x" * LONGEST}"', '"é"'])
def test_other_ids_come_back_as_they_were(api: Stack, id: str) -> None:
    assert raw(api, ping(id)).json() == {"jsonrpc": "2.0", "id": json.loads(id), "result": {}}


@pytest.mark.parametrize(
    "body",
    [
        b"[" + ping("1") + b"]",
        b"[" + b",".join([ping("1")] * 5000) + b"]",
        b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
        b'{"id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":7}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 1000 + b"1" + b"}" * 1001,
        b'{"jsonrpc":"2.0"}',
        b'{"jsonrpc":"2.0","method":"\\ud800"}',
        b"\xff\xfe{}",
    ],
    ids=[
        "batch",
        "large batch",
        "version",
        "no version",
        "method",
        "params",
        "nesting",
        "empty",
        "surrogate",
        "UTF-16",
    ],
)
def test_malformed_messages_are_refused_briefly(api: Stack, body: bytes) -> None:
    answer = raw(api, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in (-32700, -32600)
    assert len(answer.content) < 400


@pytest.mark.parametrize("accept", ["", "application/json", "text/event-stream", "text/html"])
def test_client_must_accept_both_forms_of_answers(api: Stack, accept: str) -> None:
    assert raw(api, ping("1"), Accept=accept).status_code == 406
    assert raw(api, ping("1"), Accept="*/*").status_code == 200


def test_body_must_be_declared_as_json(api: Stack) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert raw(api, ping("1"), Content_Type=kind).status_code == 415
    assert raw(api, ping("1"), Content_Type="Application/JSON; charset=utf-8").status_code == 200


def test_answers_and_unknown_notifications_are_acknowledged(api: Stack) -> None:
    for message in (
        {"id": 1, "result": {}},
        {"id": 1, "error": {"code": 1, "message": "no"}},
        {"method": "notifications/initialized"},
        {"method": "notifications/unknown", "params": {"a": 1}},
    ):
        answer = raw(api, json.dumps({"jsonrpc": "2.0", **message}).encode())
        assert (answer.status_code, answer.content) == (202, b"")


def test_version_of_a_client_without_the_header_is_the_oldest(api: Stack) -> None:
    assert "result" in raw(api, ping("1")).json()
    assert raw(api, ping("1"), MCP_Protocol_Version="1999-01-01").status_code == 400


@pytest.mark.parametrize("era", [LEGACY, "2026-07-28"])
@pytest.mark.parametrize("token", ["x" * (LONGEST + 1), 10**100])
def test_progress_tokens_are_bounded(api: Stack, era: str, token: str | int) -> None:
    params = {**PROGRAM, "_meta": {"progressToken": token}}
    (answer,) = Agent(api, era).messages("tools/call", params)
    assert answer["result"]["isError"]
    assert "_meta.progressToken: has at most 200 characters" in answer["result"]["content"][0]["text"]
