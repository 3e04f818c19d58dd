"""Connections against servers that answer in every way a network can."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mayfly import ApiUnreachable, Client, MayflyError
from mayfly.connections import Connections, Server
from mayfly.steps import ConnectionLost, NotConnected, Send
from tests.builders.answering import CHUNKED, OK, head_of, serving


def ask_once(url: str, *, headers: dict[str, str] | None = None) -> bytes:
    with closing(connected(url, headers)) as connections:
        return ask(connections)


def connected(url: str, headers: dict[str, str] | None = None) -> Connections:
    return Connections(Server.at(url), headers or {})


def ask(connections: Connections, path: str = "/x", **options: Any) -> bytes:
    with connections.request(Send("GET", path, timeout_seconds=10, **options)) as answer:
        return answer.read()


def test_a_connection_is_used_again() -> None:
    with serving([OK, OK]) as server:
        connections = connected(server.url)
        assert [ask(connections), ask(connections)] == [b"{}", b"{}"]
        connections.close()
    assert len(server.seen) == 1


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


@pytest.mark.parametrize("answer", [OK[:-1], CHUNKED, CHUNKED[:-3], OK[:20], b"", b"SSH-2.0-OpenSSH\r\n"])
def test_part_of_an_answer_is_none(answer: bytes) -> None:
    with serving([answer]) as server, pytest.raises(ConnectionLost):
        ask_once(server.url)


def test_silence_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connections = connected(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ConnectionLost, match="timed out") as caught:
            connections.request(Send("GET", "/x", timeout_seconds=0.1))
    assert not isinstance(caught.value, NotConnected)


def test_a_refusal_arrives_before_all_of_the_body_is_sent() -> None:
    refusal = b'HTTP/1.1 413 Large\r\nConnection: close\r\nContent-Length: 15\r\n\r\n{"code": "big"}'
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        peer, _ = listener.accept()
        with peer, peer.makefile("rb") as file:
            head_of(file)
            peer.sendall(refusal)
            peer.shutdown(socket.SHUT_RDWR)

    with listener, Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        with pytest.raises(MayflyError) as caught:
            client.append_stdin("x", bytes(2**25), 0)
        thread.join(10)
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


def test_proxy_is_used_for_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([OK]) as server:
        monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:p%40ss@"))
        assert ask_once("http://elsewhere.invalid/base") == b"{}"
    ((head,),) = server.seen
    assert head.splitlines()[0] == "GET http://elsewhere.invalid:80/base/x HTTP/1.1"
    assert "Host: elsewhere.invalid:80" in head.splitlines()
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz" in head


def test_proxy_is_not_used_for_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving([OK]) as server:
        assert ask_once(server.url) == b"{}"
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


def test_another_kind_of_proxy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(MayflyError, match="socks5"):
        Client("http://elsewhere.invalid")


def test_self_signed_certificate_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls_server: Callable[[Path], str]
) -> None:
    url = tls_server(tmp_path)
    with Client(url) as client, pytest.raises(ApiUnreachable, match=r"self-signed|self signed"):
        client.versions()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))  # the control: this authority is trusted
    with Client(url) as client:
        assert client.versions() == {}
