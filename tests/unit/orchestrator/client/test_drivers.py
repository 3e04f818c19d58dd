"""Both drivers, against servers that answer in every way a network can."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from mayfly import ApiUnreachable, AsyncClient, Client, InvalidConfiguration, MayflyError, asynchronous, client
from mayfly.steps import ConnectionLost, NotConnected, Read, Send
from tests.builders.answering import CHUNKED, OK, refusing, serving


class Ask(Protocol):
    """Do the steps of one call with one of the drivers; the result of each step."""

    def __call__(self, url: str, *steps: Send | Read) -> list[Any]: ...


def ask_blocking(url: str, *steps: Send | Read) -> list[Any]:
    with Client(url, "t") as made:
        driver = client.Driver(made._connections)
        try:
            return [driver.take(step) for step in steps]
        finally:
            driver.close()


def ask_asynchronous(url: str, *steps: Send | Read) -> list[Any]:
    async def main() -> list[Any]:
        async with AsyncClient(url, "t") as made:
            driver = asynchronous.Driver(made._http, made._server)
            try:
                return [await driver.take(step) for step in steps]
            finally:
                await driver.close()

    return asyncio.run(main())


ASKS = {"blocking": ask_blocking, "asynchronous": ask_asynchronous}


@pytest.fixture(params=ASKS)
def ask(request: pytest.FixtureRequest) -> Ask:
    return ASKS[request.param]


@pytest.fixture(params=[False, True], ids=["blocking", "asynchronous"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make one call with one of the clients."""

    def asynchronously(url: str, name: str, *args: Any) -> Any:
        async def main() -> Any:
            async with AsyncClient(url) as made:
                return await getattr(made, name)(*args)

        return asyncio.run(main())

    def blocking(url: str, name: str, *args: Any) -> Any:
        with Client(url) as made:
            return getattr(made, name)(*args)

    return asynchronously if request.param else blocking


def test_both_drivers_write_the_same_request() -> None:
    fields = {"Host", "Authorization", "User-Agent", "Accept-Encoding", "Prefer", "Content-Type", "Content-Length"}
    heads = []
    for ask in ASKS.values():
        step = Send("POST", "/a b/%2F/日", params={"end": True, "state": ["a", "ä &"]}, json={"é": 1.5})
        step.headers = {"Prefer": "wait=1"}
        with serving([OK]) as server:
            (response,) = ask(f"{server.url}/base/", step)
            assert (response.status, response.content) == (200, b"{}")
        ((head,),) = server.seen
        line, *headers = head.replace(server.url.removeprefix("http://"), "host").splitlines()
        named = dict(header.split(": ", 1) for header in headers)
        heads.append((line, {name: value for name, value in named.items() if name in fields}))
    assert heads[0] == heads[1]
    assert set(heads[0][1]) == fields


@pytest.mark.parametrize("answer", [OK[:-1], CHUNKED, CHUNKED[:-3], OK[:20], b"", b"SSH-2.0-OpenSSH\r\n"])
def test_cut_answer_is_a_lost_connection(ask: Ask, answer: bytes) -> None:
    with serving([answer]) as server, pytest.raises(ConnectionLost) as caught:
        ask(server.url, Send("GET", "/x"))
    assert not isinstance(caught.value, NotConnected)


def test_stream_is_read_in_pieces_and_a_cut_is_a_lost_connection(ask: Ask) -> None:
    with serving([OK]) as server:
        response, first, end = ask(server.url, Send("GET", "/x", streamed=True), Read(), Read())
    assert (response.content, first, end) == (b"", b"{}", b"")
    with serving([CHUNKED]) as server, pytest.raises(ConnectionLost):
        ask(server.url, Send("GET", "/x", streamed=True), Read(), Read())


def test_a_connection_is_used_again(ask: Ask) -> None:
    with serving([OK, OK]) as server:
        ask(server.url, Send("GET", "/x"), Send("GET", "/x"))
    assert len(server.seen) == 1


def test_silent_server_is_a_lost_connection(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectionLost) as caught:
        ask(f"http://127.0.0.1:{silent.getsockname()[1]}", Send("GET", "/x", timeout_seconds=0.1))
    assert not isinstance(caught.value, NotConnected)


def test_refused_connection_is_not_connected(ask: Ask) -> None:
    with pytest.raises(NotConnected):
        ask("http://127.0.0.1:1", Send("GET", "/x"))


def test_refusal_arrives_before_all_of_the_body_is_sent(call: Callable[..., Any]) -> None:
    # As the API does: a reset connection would cost asyncio the answer.
    with refusing(reads_on=True) as url, pytest.raises(MayflyError) as caught:
        call(url, "append_stdin", "x", bytes(2**25), 0)
    assert (caught.value.status, caught.value.code) == (413, "big")


def test_proxy_is_used_for_other_hosts(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([OK]) as server:
        monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:p%40ss@"))
        assert ask("http://elsewhere.invalid/base", Send("GET", "/x"))[0].content == b"{}"
    ((head,),) = server.seen
    lines = head.replace("elsewhere.invalid:80", "elsewhere.invalid").splitlines()
    assert lines[0] == "GET http://elsewhere.invalid/base/x HTTP/1.1"
    assert {"Host: elsewhere.invalid", "Proxy-Authorization: Basic dXNlcjpwQHNz"} <= set(lines)


def test_proxy_is_not_used_for_this_host(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving([OK]) as server:
        assert ask(server.url, Send("GET", "/x"))[0].content == b"{}"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_another_kind_of_proxy_is_refused(
    kind: type[Client] | type[AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(InvalidConfiguration, match="socks5"):
        kind("http://elsewhere.invalid")


def test_self_signed_certificate_is_refused(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls_server: Callable[[Path], str]
) -> None:
    url = tls_server(tmp_path)
    with pytest.raises(ApiUnreachable, match=r"self-signed|self signed"):
        call(url, "versions")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))  # the control: this authority is trusted
    assert json.dumps(call(url, "versions")) == "{}"
