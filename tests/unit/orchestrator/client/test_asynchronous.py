"""The driver for asyncio, against servers that answer in every way a network can: as the one that blocks."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mayfly import ApiUnreachable, AsyncClient, Client, InvalidConfiguration, MayflyError
from mayfly.asynchronous import Driver
from mayfly.steps import ConnectionLost, NotConnected, Read, Send
from tests.builders.answering import CHUNKED, OK, head_of, serving


def ask(url: str, *steps: Send | Read, token: str = "t") -> list[Any]:
    """What each step of one call gives."""

    async def main() -> list[Any]:
        async with AsyncClient(url, token) as client:
            driver = Driver(client._http, client._server)
            try:
                return [await driver.take(step) for step in steps]
            finally:
                await driver.close()

    return asyncio.run(main())


def test_both_clients_write_the_same() -> None:
    fields = {"Host", "Authorization", "User-Agent", "Accept-Encoding", "Prefer", "Content-Type", "Content-Length"}
    heads = []
    for blocking in (True, False):
        with serving([OK]) as server:
            url = f"{server.url}/base/"
            step = Send("POST", "/a b/%2F/日", params={"end": True, "state": ["a", "ä &"]}, json={"é": 1.5})
            step.headers = {"Prefer": "wait=1"}
            if blocking:
                with Client(url, "t") as client, client._connections.request(step) as answer:
                    assert answer.read() == b"{}"
            else:
                (response,) = ask(url, step)
                assert (response.status, response.content) == (200, b"{}")
        ((head,),) = server.seen
        line, *headers = head.replace(server.url.removeprefix("http://"), "host").splitlines()
        named = dict(header.split(": ", 1) for header in headers)
        heads.append((line, {name: value for name, value in named.items() if name in fields}))
    assert heads[0] == heads[1]
    assert set(heads[0][1]) == fields


@pytest.mark.parametrize("answer", [OK[:-1], CHUNKED, CHUNKED[:-3], OK[:20], b"", b"SSH-2.0-OpenSSH\r\n"])
def test_cut_answer_is_a_lost_connection(answer: bytes) -> None:
    with serving([answer]) as server, pytest.raises(ConnectionLost) as caught:
        ask(server.url, Send("GET", "/x"))
    assert not isinstance(caught.value, NotConnected)


def test_a_stream_is_read_in_pieces_and_a_cut_is_seen() -> None:
    with serving([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]) as server:
        response, first, end = ask(server.url, Send("GET", "/x", streamed=True), Read(), Read())
    assert (response.content, first, end) == (b"", b"{}", b"")
    with serving([CHUNKED]) as server, pytest.raises(ConnectionLost):
        ask(server.url, Send("GET", "/x", streamed=True), Read(), Read())


def test_a_connection_is_used_again() -> None:
    with serving([OK, OK]) as server:
        ask(server.url, Send("GET", "/x"), Send("GET", "/x"))
    assert len(server.seen) == 1


def test_silent_server_is_a_lost_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectionLost) as caught:
        ask(f"http://127.0.0.1:{silent.getsockname()[1]}", Send("GET", "/x", timeout_seconds=0.1))
    assert not isinstance(caught.value, NotConnected)


def test_refused_connection_is_not_connected() -> None:
    with pytest.raises(NotConnected):
        ask("http://127.0.0.1:1", Send("GET", "/x"))


def test_a_refusal_arrives_before_all_of_the_body_is_sent() -> None:
    refusal = b'HTTP/1.1 413 Large\r\nConnection: close\r\nContent-Length: 15\r\n\r\n{"code": "big"}'
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        peer, _ = listener.accept()
        with peer, peer.makefile("rb") as file:
            head_of(file)
            peer.sendall(refusal)
            peer.shutdown(socket.SHUT_WR)
            while file.read(2**20):  # as the API does: a reset would cost asyncio the answer
                pass

    async def send() -> None:
        async with AsyncClient(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            await client.append_stdin("x", bytes(2**25), 0)

    with listener:
        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        with pytest.raises(MayflyError) as caught:
            asyncio.run(send())
        thread.join(10)
    assert (caught.value.status, caught.value.code) == (413, "big")


def test_proxy_is_used_for_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([OK]) as server:
        monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:p%40ss@"))
        assert ask("http://elsewhere.invalid/base", Send("GET", "/x"))[0].content == b"{}"
    ((head,),) = server.seen
    assert head.splitlines()[0] == "GET http://elsewhere.invalid/base/x HTTP/1.1"
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz" in head


def test_proxy_is_not_used_for_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving([OK]) as server:
        assert ask(server.url, Send("GET", "/x"))[0].content == b"{}"
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    monkeypatch.delenv("http_proxy")
    with pytest.raises(InvalidConfiguration, match="socks5"):
        AsyncClient("http://elsewhere.invalid")


def test_self_signed_certificate_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls_server: Callable[[Path], str]
) -> None:
    url = tls_server(tmp_path)

    async def versions() -> Any:
        async with AsyncClient(url) as client:
            return await client.versions()

    with pytest.raises(ApiUnreachable, match=r"self-signed|self signed"):
        asyncio.run(versions())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))  # the control: this authority is trusted
    assert json.dumps(asyncio.run(versions())) == "{}"
