"""Lines of MCP clients, and the headers of both eras of the protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.cli.commands.agents.messages import (
    INVALID_REQUEST,
    PARSE_ERROR,
    InvalidMessage,
    failure,
    header_value,
    headers,
    parse,
)

MODERN = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
BASE = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def line(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


def headers_of(agreed: str | None = None, **message: Any) -> dict[str, str]:
    found = headers(parse(line(**message)), agreed)
    assert {name: found.pop(name) for name in BASE} == BASE
    return found


@pytest.mark.parametrize(
    ("text", "code", "id", "advice"),
    [
        (b"{", PARSE_ERROR, None, "one JSON-RPC message a line"),
        (b"\xff", PARSE_ERROR, None, "not JSON"),
        (b"[" * 100_000, PARSE_ERROR, None, "not JSON"),
        (b"[]", INVALID_REQUEST, None, "a line of its own"),
        (b"1", INVALID_REQUEST, None, "jsonrpc"),
        (b'{"id": 1, "method": "ping"}', INVALID_REQUEST, None, "jsonrpc"),
        (line(id=True, method="ping"), INVALID_REQUEST, None, "id"),
        (line(id=1.5, method="ping"), INVALID_REQUEST, None, "id"),
        (line(id=7, method=5), INVALID_REQUEST, 7, "method"),
        (line(), INVALID_REQUEST, None, "method"),
    ],
)
def test_other_lines_are_refused(text: bytes, code: int, id: int | None, advice: str) -> None:
    with pytest.raises(InvalidMessage, match=advice) as refused:
        parse(text)
    assert (refused.value.code, refused.value.id) == (code, id)


def test_requests_notifications_and_answers_are_distinguished() -> None:
    assert parse(line(id=0, method="ping")).is_request
    assert parse(line(id="", method="ping")).is_request
    assert not parse(line(method="notifications/initialized")).is_request
    assert not parse(line(id=1, result={})).is_request
    assert parse(line(id=1, method="ping", params=[1])).params == {}


def test_older_clients_repeat_the_agreed_version_alone() -> None:
    assert headers_of(id=1, method="initialize", params={"protocolVersion": "2025-06-18"}) == {}
    assert headers_of("2025-11-25", id=1, method="initialize") == {}
    agreed = {"MCP-Protocol-Version": "2025-11-25"}
    assert headers_of("2025-11-25", id=1, method="tools/call", params={"name": "execute_code"}) == agreed
    assert headers_of("2025-11-25", method="notifications/initialized") == agreed
    assert headers_of("2025-11-25", id=1, result={}) == agreed


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("server/discover", {}, None),
        ("tools/list", {"name": "not of a tool"}, None),
        ("tools/call", {"name": "execute_code"}, "execute_code"),
        ("tools/call", {"name": 5}, None),
        ("tools/call", {}, None),
        ("prompts/get", {"name": "p"}, "p"),
        ("resources/read", {"uri": "mayfly://executions/x"}, "mayfly://executions/x"),
        ("tasks/get", {"taskId": "01J"}, "01J"),
    ],
)
def test_newer_clients_requests_repeat_method_and_name(method: str, params: dict[str, Any], name: str | None) -> None:
    expected = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method} | ({"Mcp-Name": name} if name else {})
    for agreed in (None, "2025-11-25"):
        assert headers_of(agreed, id=1, method=method, params={**params, **MODERN}) == expected


@pytest.mark.parametrize(
    ("method", "params", "client"),
    [
        ("initialize", {"clientInfo": {"name": "claude-code", "version": "2.1"}}, "claude-code/2.1"),
        ("tools/list", {"_meta": {"io.modelcontextprotocol/clientInfo": {"name": "a b\r\nX: y"}}}, "a-b-X-y/"),
        ("initialize", {"clientInfo": {"name": "n" * 99, "version": 1}}, "n" * 64 + "/1"),
        ("tools/list", {"clientInfo": {"name": "x"}}, None),
        ("initialize", {"clientInfo": "x", "_meta": 5}, None),
    ],
)
def test_client_is_named_in_plain_characters(method: str, params: dict[str, Any], client: str | None) -> None:
    assert parse(line(id=1, method=method, params=params)).client == client


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("execute_code", "execute_code"),
        ("a b", "a b"),
        (" a", "=?base64?IGE=?="),
        ("a ", "=?base64?YSA=?="),
        ("", "=?base64??="),
        ("ä", "=?base64?w6Q=?="),
        ("a\r\nX: y", "=?base64?YQ0KWDogeQ==?="),
        ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
        ("\ud800", "=?base64?7aCA?="),
    ],
)
def test_no_text_breaks_out_of_its_header(text: str, value: str) -> None:
    assert header_value(text) == value


def test_failure_is_an_answer_with_the_known_id() -> None:
    assert json.loads(failure("a", -1, "no")) == {"jsonrpc": "2.0", "id": "a", "error": {"code": -1, "message": "no"}}
    assert json.loads(failure(None, -1, "no", {"status": 401}))["error"]["data"] == {"status": 401}
