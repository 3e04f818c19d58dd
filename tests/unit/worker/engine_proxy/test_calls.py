"""The list of calls: what is permitted is written anew, and all else is refused."""

from __future__ import annotations

import pytest

from worker.engine_proxy.calls import (
    MOST_DETAIL,
    ROUTES,
    Refused,
    parse,
    refuse_headers,
    refuse_other_filters,
    strict_json,
)

ID = "0123456789abcdef" * 4
PERMITTED = (
    ("GET", "/_ping", "ping"),
    ("GET", "/version", "version"),
    ("GET", "/v1.41/info", "info"),
    ("GET", f"/v1.41/images/sha256:{ID}/json", "image"),
    ("GET", "/v1.41/containers/json?limit=-1&all=1&size=0&trunc_cmd=0&filters=%7B%7D", "list"),
    ("POST", "/v1.51/containers/create?name=mayfly-w-1", "create"),
    ("POST", f"/v1.41/containers/{ID}/attach?stdin=1&stdout=1&stderr=1&stream=1", "attach"),
    ("POST", f"/v1.41/containers/{ID}/start", "start"),
    ("GET", f"/v1.41/containers/{ID}/json", "inspect"),
    ("GET", "/v1.41/containers/mayfly-w-1/json", "inspect"),
    ("POST", f"/v1.41/containers/{ID}/update", "update"),
    ("POST", f"/v1.41/containers/{ID}/wait", "wait"),
    ("POST", f"/v1.41/containers/{ID}/kill", "kill"),
    ("DELETE", f"/v1.41/containers/{ID}?v=True&link=False&force=True", "remove"),
)
# Each is a call of the engine, or may be read as one.
REFUSED = (
    ("POST", f"/v1.41/containers/{ID}/exec", "call"),
    ("POST", f"/v1.41/exec/{ID}/start", "call"),
    ("GET", f"/v1.41/containers/{ID}/archive?path=/etc", "call"),
    ("PUT", f"/v1.41/containers/{ID}/archive?path=/etc", "call"),
    ("GET", f"/v1.41/containers/{ID}/logs?stdout=1", "call"),
    ("POST", f"/v1.41/containers/{ID}/rename?name=x", "call"),
    ("POST", f"/v1.41/containers/{ID}/restart", "call"),
    ("POST", f"/v1.41/containers/{ID}/attach/ws", "call"),
    ("POST", "/v1.41/containers/prune", "call"),
    ("POST", "/v1.41/images/load", "call"),
    ("POST", "/v1.41/images/create?fromImage=x", "call"),
    ("DELETE", f"/v1.41/images/sha256:{ID}", "call"),
    ("POST", "/v1.41/build", "call"),
    ("POST", "/v1.41/commit", "call"),
    ("POST", "/v1.41/plugins/pull", "call"),
    ("POST", "/v1.41/volumes/create", "call"),
    ("POST", "/v1.41/networks/create", "call"),
    ("POST", "/v1.41/swarm/init", "call"),
    ("GET", "/v1.41/events", "call"),
    ("GET", "/v1.41/swarm/unlockkey", "call"),
    ("GET", "/v1.41/secrets", "call"),
    ("GET", "/v1.41/configs", "call"),
    ("POST", "/v1.41/services/create", "call"),
    ("GET", "/v1.41/nodes", "call"),
    ("POST", "/v1.41/auth", "call"),
    ("POST", "/v1.41/grpc", "call"),
    ("POST", "/v1.41/images/x/push", "call"),
    ("GET", f"/v1.41/images/sha256:{ID}/get", "call"),
    ("GET", f"/v1.41/containers/{ID}/export", "call"),
    ("HEAD", f"/v1.41/containers/{ID}/archive?path=/etc", "call"),
    ("POST", f"/v1.41/containers/{ID}/copy", "call"),
    ("POST", "/v1.41/session", "call"),
    ("GET", "/v1.41/images/mayfly/python:latest/json", "call"),
    ("POST", f"/v1.24/containers/{ID}/start", "call"),
    ("GET", "/v1.40/info", "call"),
    ("GET", "/v1.100/info", "call"),
    ("GET", "/v2.41/info", "call"),
    ("GET", "/v1.041/info", "call"),
    ("GET", "/v1.41/v1.24/info", "call"),
    ("GET", "/V1.41/info", "call"),
    ("GET", "/v1.41;x=1/info", "call"),
    ("GET", "/info#", "call"),
    ("POST", f"/v1.41/../v1.41/containers/{ID}/exec", "call"),
    ("GET", "/v1.41/containers/../images/json", "call"),
    ("GET", "//info", "call"),
    ("GET", "/v1.41//info", "call"),
    ("GET", "/v1.41/info/", "call"),
    ("GET", "/v1.41%2finfo", "call"),
    ("GET", "/%69nfo", "call"),
    ("GET", "http://engine/info", "call"),
    ("get", "/info", "call"),
    ("HEAD", "/_ping", "call"),
    ("POST", f"/v1.41/containers/{ID[:12]}/kill", "call"),
    ("POST", f"/v1.41/containers/{ID.upper()}/kill", "call"),
    ("POST", "/v1.41/containers/mayfly-w-1/kill", "call"),
    ("GET", "/v1.41/containers/other/json", "call"),
    ("POST", "/v1.41/containers/create?name=other", "query"),
    ("POST", "/v1.41/containers/create?name=mayfly-1&platform=linux", "query"),
    ("POST", "/v1.41/containers/create?name=mayfly-1&name=mayfly-2", "query"),
    ("GET", "/v1.41/containers/json?all=1&size=1", "query"),
    ("POST", f"/v1.41/containers/{ID}/attach?stream=1&logs=1", "query"),
    ("POST", f"/v1.41/containers/{ID}/attach?stream=1&detachKeys=a", "query"),
    ("POST", f"/v1.41/containers/{ID}/start?checkpoint=x", "query"),
    ("POST", f"/v1.41/containers/{ID}/kill?signal=STOP", "query"),
    ("DELETE", f"/v1.41/containers/{ID}?link=True", "query"),
    ("POST", f"/v1.41/containers/{ID}/start?", None),
    ("POST", f"/v1.41/containers/{ID}/start?x", "query"),
)


@pytest.mark.parametrize(("method", "target", "name"), PERMITTED)
def test_calls_of_workers_are_permitted(method: str, target: str, name: str) -> None:
    call = parse(method, target)
    assert call.name == name
    assert call.target.split("?")[0] == target.split("?")[0]


def test_every_route_has_a_case() -> None:
    assert {name for _, _, name in PERMITTED} == {route.name for route in ROUTES}


@pytest.mark.parametrize(("method", "target", "reason"), REFUSED)
def test_every_other_call_is_refused(method: str, target: str, reason: str | None) -> None:
    if reason is None:
        assert parse(method, target).target == target.rstrip("?"), "the target is written anew"
        return
    with pytest.raises(Refused) as refused:
        parse(method, target)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ([(b"host", b"x"), (b"content-length", b"0")], False),
        ([(b"host", b"x"), (b"host", b"y")], True),
        ([(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], True),
        ([(b"transfer-encoding", b"chunked")], True),
        ([(b"expect", b"100-continue")], True),
        ([(b"content-length", b"0"), (b"content-length", b"0")], True),
        ([(b"te", b"trailers")], True),
        ([(b"trailer", b"x-late")], True),
        ([(b"connection", b"Upgrade"), (b"upgrade", b"h2c")], True),
    ],
)
def test_headers_that_readers_take_differently_are_refused(
    headers: list[tuple[bytes, bytes]], is_refused: bool
) -> None:
    route = parse("GET", "/info").route
    if is_refused:
        with pytest.raises(Refused):
            refuse_headers(headers, route)
    else:
        refuse_headers(headers, route)


def test_only_an_attached_connection_is_upgraded() -> None:
    headers = [(b"connection", b"Upgrade"), (b"upgrade", b"tcp")]
    refuse_headers(headers, parse("POST", f"/containers/{ID}/attach?stream=1").route)
    with pytest.raises(Refused):
        refuse_headers(headers, parse("POST", f"/containers/{ID}/start").route)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"connection", b"Upgrade")],
        [(b"upgrade", b"tcp")],
        [(b"connection", b"Upgrade"), (b"upgrade", b"")],
        [(b"connection", b"Upgrade"), (b"upgrade", b"h2c")],
        [(b"connection", b"Upgrade"), (b"upgrade", b"tcp, h2c")],
        [(b"connection", b"close"), (b"upgrade", b"tcp")],
    ],
)
def test_attach_without_the_upgrade_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Refused) as refused:
        refuse_headers(headers, parse("POST", f"/containers/{ID}/attach?stream=1").route)
    assert refused.value.reason == "headers"


def test_detail_of_a_refusal_is_bounded() -> None:
    """It repeats parts of the request in an answer, a log line and an event."""
    for target in ("/" + "a" * 15_000, "/info?" + "a" * 15_000 + "=1"):
        with pytest.raises(Refused) as refused:
            parse("GET", target)
        assert len(refused.value.detail) == len(str(refused.value)) == MOST_DETAIL


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 1}}', "{", "", "[" * 100_000, b"\xff"])
def test_ambiguous_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(Refused):
        strict_json(text)


def test_only_own_containers_are_listed() -> None:
    refuse_other_filters('{"label": ["dev.mayfly.installation=mine"]}', "mine")
    for filters in (
        "{}",
        '{"label": ["dev.mayfly.installation"]}',
        '{"label": ["dev.mayfly.installation=other"]}',
        '{"label": ["dev.mayfly.installation=mine"], "status": ["exited"]}',
        '{"label": ["dev.mayfly.installation=mine"], "label": []}',
    ):
        with pytest.raises(Refused):
            refuse_other_filters(filters, "mine")
