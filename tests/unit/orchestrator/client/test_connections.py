"""Connections of the blocking client alone: when they are used again, how requests are encoded, what is refused."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from mayfly import Client, MayflyError
from mayfly.connections import Connections, Server
from mayfly.steps import NotConnected, Send
from tests.builders.answering import OK, refusing, serving


def ask_once(url: str, *, headers: dict[str, str] | None = None) -> bytes:
    with closing(connected(url, headers)) as connections:
        return ask(connections)


def connected(url: str, headers: dict[str, str] | None = None) -> Connections:
    return Connections(Server.at(url), headers or {})


def ask(connections: Connections, path: str = "/x", **options: Any) -> bytes:
    with connections.request(Send("GET", path, timeout_seconds=10, **options)) as answer:
        return answer.read()


def test_connection_closed_by_the_server_is_not_reused() -> None:
    with serving([OK], [OK]) as server:
        connections = connected(server.url)
        ask(connections)
        assert server.closed[0].wait(10)
        ask(connections)
        connections.close()
    assert len(server.seen) == 2


def test_a_connection_with_a_body_left_unread_is_not() -> None:
    with serving([OK], [OK]) as server:
        connections = connected(server.url)
        with connections.request(Send("GET", "/x")):
            pass
        assert ask(connections) == b"{}"
        connections.close()
    assert len(server.seen) == 2


def test_refusal_arrives_from_a_server_that_resets_the_connection() -> None:
    with (
        refusing(reads_on=False) as url,
        Client(url) as client,
        pytest.raises(MayflyError) as caught,
    ):
        client.append_stdin("x", bytes(2**25), 0)
    assert (caught.value.status, caught.value.code) == (413, "big")


def test_requests_are_encoded_as_http() -> None:
    with serving([OK]) as server:
        params = {"end": True, "state": ["a", "b"], "text": "ä &"}
        connections = connected(f"{server.url}/base", {"Authorization": "Bearer t"})
        ask(connections, "/a b/%2F/日", params=params, headers={"Prefer": "wait=1"})
        connections.close()
    ((head,),) = server.seen
    line, *headers = head.splitlines()
    assert line == "GET /base/a%20b/%2F/%E6%97%A5?end=true&state=a&state=b&text=%C3%A4+%26 HTTP/1.1"
    assert {"Authorization: Bearer t", "Prefer: wait=1"} <= set(headers)


@pytest.mark.parametrize("url", ["no url", "ftp://host", "http://", "http://host:port", "http://[::1", "127.0.0.1:80"])
def test_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(MayflyError, match="MAYFLY_URL") as caught:
        Client(url)
    assert caught.value.code == "invalid_url"


@pytest.mark.parametrize("token", ["ключ", "a\nb"])
def test_key_with_invalid_header_characters_is_refused(token: str) -> None:
    with pytest.raises(MayflyError, match="MAYFLY_TOKEN") as caught:
        Client("http://127.0.0.1:1", token)
    assert caught.value.code == "invalid_token"
    assert token not in str(caught.value)


def test_proxy_is_not_used_for_excluded_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "elsewhere.invalid")
    with pytest.raises(NotConnected, match=r"[Nn]ame|resolution"):
        ask_once("http://elsewhere.invalid")


def test_a_proxy_is_asked_for_a_tunnel_and_sees_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([b"HTTP/1.1 403 Forbidden\r\n\r\n"]) as server:
        monkeypatch.setenv("https_proxy", server.url)
        with pytest.raises(NotConnected, match="403"):
            ask_once("https://elsewhere.invalid", headers={"Authorization": "Bearer secret"})
    ((head,),) = server.seen
    assert head.startswith("CONNECT elsewhere.invalid:443 HTTP/1.")
    assert "secret" not in head
