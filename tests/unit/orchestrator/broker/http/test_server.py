"""Calls of ``http.get`` and ``http.post`` to servers: 127.0.0.2 stands for a public address, 127.0.0.1 does not."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from orchestrator.broker.http import HttpBounds, HttpTools
from orchestrator.broker.http import exchange as exchanging
from orchestrator.broker.http.addresses import AddressRules
from orchestrator.broker.http.resolving import PinnedBackend
from orchestrator.models.tools import ToolFailure
from tests.builders.tools.upstreams import (
    Asked,
    Names,
    Upstream,
    Write,
    always,
    answer,
    failure,
    fetch,
    http_tools,
    result,
    upstream,
)

PUBLIC = "127.0.0.2"
CANARY = "127.0.0.1"


async def echo(asked: Asked, write: Write) -> None:
    shown = {
        "method": asked.method,
        "target": asked.target,
        "headers": dict(asked.headers),
        "body": asked.body.decode(),
    }
    await write(answer(json.dumps(shown).encode(), content_type="application/json"))


def run(script: Any, test: Callable[[Upstream], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with upstream(script) as server:
            return await test(server)

    return asyncio.run(main())


def failed(script: Any, **options: Any) -> ToolFailure:
    """The failure of a GET that this script answers."""

    async def test(server: Upstream) -> ToolFailure:
        return failure(await fetch(http_tools(**options), server.url(PUBLIC)))

    found: ToolFailure = run(script, test)
    return found


def test_get_and_post() -> None:
    async def test(server: Upstream) -> None:
        tools = http_tools(names=Names(api_example=PUBLIC))
        url = server.url("api.example", "/v1?q=ü#part")
        got = result(await fetch(tools, url, headers={"X-Key": "1"}))
        assert (got["status"], got["base64"], got["from_cache"]) == (200, None, False)
        assert got["url"] == server.url("api.example", "/v1?q=%C3%BC")
        assert got["headers"]["content-type"] == "application/json"
        seen = json.loads(got["text"])
        assert (seen["method"], seen["target"], seen["headers"]["x-key"]) == ("GET", "/v1?q=%C3%BC", "1")
        assert seen["headers"]["host"] == f"api.example:{server.port}"
        seen = json.loads(result(await fetch(tools, url, body={"a": 1}))["text"])
        assert (seen["method"], seen["body"], seen["headers"]["content-type"]) == (
            "POST",
            '{"a": 1}',
            "application/json",
        )

    run(echo, test)


def test_any_status_is_a_result() -> None:
    async def test(server: Upstream) -> None:
        got = result(await fetch(http_tools(), server.url(PUBLIC)))
        assert (got["status"], got["text"]) == (503, "later")

    run(always(answer(b"later", 503, content_type="text/plain")), test)


def test_large_answer_comes_whole() -> None:
    async def test(server: Upstream) -> None:
        assert result(await fetch(http_tools(), server.url(PUBLIC)))["text"] == "ü" * 2**20

    run(always(answer("ü".encode() * 2**20, content_type="text/plain")), test)


def test_bytes_come_as_base64() -> None:
    async def test(server: Upstream) -> None:
        got = result(await fetch(http_tools(), server.url(PUBLIC)))
        assert (got["text"], base64.b64decode(got["base64"])) == (None, b"\0\xff")

    run(always(answer(b"\0\xff", content_type="image/png")), test)


def test_compressed_answer_in_chunks_is_unpacked() -> None:
    packed = gzip.compress(b"text" * 1000)

    async def script(_: Asked, write: Write) -> None:
        await write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\n")
        await write(b"transfer-encoding: chunked\r\n\r\n")
        for byte in packed:
            await write(b"1\r\n" + bytes([byte]) + b"\r\n")
        await write(b"0\r\n\r\n")

    async def test(server: Upstream) -> None:
        assert result(await fetch(http_tools(), server.url(PUBLIC)))["text"] == "text" * 1000

    run(script, test)


@pytest.mark.parametrize("url", ["http://other.example:{}/", "http://api.example/", "https://api.example:{}/"])
def test_host_outside_the_list_is_denied_before_its_name_is_looked_up(url: str) -> None:
    async def test(server: Upstream) -> None:
        names = Names(api_example=PUBLIC, other_example=PUBLIC)
        tools, asked = http_tools(names=names), url.format(server.port)
        denied = failure(await fetch(tools, asked, hosts=[f"http://api.example:{server.port}"]))
        assert (denied.code, names.lookups, server.asked) == ("tool_denied", [], [])
        assert "`hosts`" in denied.message
        assert failure(await fetch(tools, server.url("api.example"), hosts=[])).code == "tool_denied"
        result(await fetch(tools, server.url("api.example"), hosts=[f"http://api.example:{server.port}"]))
        result(await fetch(tools, server.url("other.example")))

    run(always(answer()), test)


def test_name_with_a_private_address_is_denied_without_naming_the_address() -> None:
    async def test(server: Upstream) -> None:
        for private in (CANARY, f"{PUBLIC} {CANARY}", f"{CANARY} {PUBLIC}", "10.1.2.3", "::1"):
            tools = http_tools(names=Names(api_example=private))
            denied = failure(await fetch(tools, server.url("api.example")))
            assert denied.code == "tool_denied"
            assert not {"127.", "10.1", "::1"} & {part for part in ("127.", "10.1", "::1") if part in denied.message}
        assert server.asked == []

    run(always(answer()), test)


def test_operator_names_private_hosts() -> None:
    async def test(server: Upstream) -> None:
        names = Names(wiki_internal=CANARY, metadata_internal="169.254.169.254")
        tools = http_tools(names=names, private_hosts=(f"http://*.internal:{server.port}",))
        result(await fetch(tools, server.url("wiki.internal")))
        assert failure(await fetch(tools, server.url("metadata.internal"))).code == "tool_denied"
        assert failure(await fetch(tools, server.url(CANARY))).code == "tool_denied"
        assert failure(await fetch(tools, server.url("wiki.internal"), hosts=["*:*"])).code == "tool_denied"

    run(always(answer()), test)


def rebinding() -> Names:
    return Names(api_example=[PUBLIC, CANARY])


async def rebound(server: Upstream, names: Names) -> str | None:
    """To which address a call went whose name changes its address after the first lookup."""
    result(await fetch(http_tools(names=names), server.url("api.example")))
    return server.reached[-1]


def test_name_is_looked_up_once_and_its_address_pinned() -> None:
    async def test(server: Upstream) -> None:
        names = rebinding()
        assert await rebound(server, names) == PUBLIC
        assert names.lookups == ["api.example"]
        denied = failure(await fetch(http_tools(names=names), server.url("api.example")))
        assert (denied.code, names.lookups) == ("tool_denied", ["api.example"] * 2)

    run(always(answer()), test)


def test_control_connection_that_looks_up_again_reaches_the_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    names = rebinding()

    class Unpinned(PinnedBackend):
        async def connect_tcp(self, host: str, *arguments: Any, **options: Any) -> Any:
            (address,) = await names.addresses(host, 0)
            self._addresses = (address,)
            return await super().connect_tcp(host, *arguments, **options)

    monkeypatch.setattr(exchanging, "PinnedBackend", Unpinned)

    async def test(server: Upstream) -> None:
        assert await rebound(server, names) == CANARY

    run(always(answer()), test)


def test_next_address_is_tried_if_the_first_does_not_answer() -> None:
    async def test(server: Upstream) -> None:
        tools = http_tools(names=Names(api_example=f"127.0.0.3 {PUBLIC}"))
        result(await fetch(tools, server.url("api.example")))
        tools = http_tools(names=Names(api_example="127.0.0.3 127.0.0.4"))
        refused = failure(await fetch(tools, server.url("api.example")))
        assert refused.code == "tool_failed"

    run(always(answer()), test)


@pytest.mark.parametrize("written", ["", None])
def test_name_without_an_address_fails(written: str | None) -> None:
    class Missing(Names):
        async def addresses(self, host: str, port: int) -> tuple[str, ...]:
            if written is None:
                raise OSError("Name or service not known")
            return ()

    outcome = asyncio.run(fetch(http_tools(names=Missing()), "http://missing.example/"))
    assert failure(outcome).code == "tool_failed"


@pytest.mark.parametrize(
    "content",
    [
        b"garbage\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000,
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 1\r\n\r\na",
    ],
    ids=["garbage", "nothing", "short", "two lengths", "bad chunk", "long header", "upgrade", "coding"],
)
def test_malformed_answer_fails(content: bytes) -> None:
    assert failed(always(content)).code == "tool_failed"


def test_number_of_headers_is_bounded() -> None:
    def headers(number: int) -> bytes:
        return answer(headers={f"x{index}": "1" for index in range(number)})

    assert failed(always(headers(exchanging.MOST_HEADERS))).code == "tool_result_too_large"
    run(always(headers(exchanging.MOST_HEADERS - 1)), lambda server: fetch_all(server))


async def fetch_all(server: Upstream, **options: Any) -> dict[str, Any]:
    return result(await fetch(http_tools(**options), server.url(PUBLIC)))


def test_bytes_are_bounded_before_and_after_decompression() -> None:
    for content in (
        answer(bytes(100_000)),
        answer(gzip.compress(bytes(100_000)), content_encoding="gzip"),
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100_000),
    ):
        refused = failed(always(content), response_bytes=99_999)
        assert refused.code == "tool_result_too_large"
        assert "99999 bytes" in refused.message
        run(always(content), lambda server: fetch_all(server, response_bytes=100_000))


def test_endless_answer_is_cut_at_the_bound() -> None:
    async def script(_: Asked, write: Write) -> None:
        await write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await write(bytes(65536))

    async def test(server: Upstream) -> None:
        assert failure(await fetch(http_tools(), server.url(PUBLIC))).code == "tool_result_too_large"
        async with asyncio.timeout(30):
            await server.cut.wait()

    run(script, test)


async def drip_head(_: Asked, write: Write) -> None:
    await write(b"HTTP/1.1 200 OK\r\n")
    await drip(write, b"x-padding: 1\r\n")
    await write(b"content-length: 0\r\n\r\n")


async def drip_body(_: Asked, write: Write) -> None:
    await write(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n")
    await drip(write, b"a")


async def drip_early_hints(_: Asked, write: Write) -> None:
    await drip(write, b"HTTP/1.1 103 Early Hints\r\n\r\n")
    await write(answer())


async def drip(write: Write, piece: bytes) -> None:
    for _ in range(20):
        await write(piece)
        await asyncio.sleep(0.03)  # a server that is never quite silent


@pytest.mark.parametrize("script", [drip_head, drip_body, drip_early_hints])
def test_slow_drip_is_cut_at_the_deadline(script: Any) -> None:
    async def test(server: Upstream) -> None:
        late = failure(await fetch(http_tools(seconds=0.3), server.url(PUBLIC)))
        assert (late.code, late.message) == ("tool_timed_out", "The answer was not complete after 0.3 s.")
        async with asyncio.timeout(30):
            await server.cut.wait()
        result(await fetch(http_tools(seconds=30), server.url(PUBLIC)))

    run(script, test)


def test_silent_name_server_is_cut_at_the_deadline() -> None:
    class Silent(Names):
        async def addresses(self, host: str, port: int) -> tuple[str, ...]:
            await asyncio.Event().wait()
            raise AssertionError

    outcome = asyncio.run(fetch(http_tools(names=Silent(), seconds=0.1), "http://api.example/"))
    assert failure(outcome).code == "tool_timed_out"


def test_cancelled_call_closes_its_connection() -> None:
    began = asyncio.Event()

    async def script(_: Asked, write: Write) -> None:
        began.set()
        await write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await write(b"a")
            await asyncio.sleep(0.01)  # until the client is gone

    async def test(server: Upstream) -> None:
        call = asyncio.create_task(fetch(http_tools(), server.url(PUBLIC)))
        async with asyncio.timeout(30):
            await began.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await server.cut.wait()

    run(script, test)


def test_answer_is_cached_as_its_server_allows() -> None:
    async def test(server: Upstream) -> None:
        tools = http_tools()
        first, second = [result(await fetch(tools, server.url(PUBLIC))) for _ in range(2)]
        assert (first.pop("from_cache"), second.pop("from_cache")) == (False, True)
        assert first == second
        assert len(server.asked) == 1
        result(await fetch(tools, server.url(PUBLIC), tenant="two"))
        result(await fetch(http_tools(cache_bytes=0), server.url(PUBLIC)))
        assert len(server.asked) == 3
        assert failure(await fetch(tools, server.url(PUBLIC), hosts=[])).code == "tool_denied"

    run(always(answer(b"text", content_type="text/plain", cache_control="max-age=600")), test)


def test_this_hosts_own_address_is_denied() -> None:
    async def test(server: Upstream) -> None:
        own, weaker = AddressRules(special={}), AddressRules(special={}, own=False)
        denied = await fetch(HttpTools(HttpBounds(), Names(), own), server.url(CANARY))
        assert (failure(denied).code, server.asked) == ("tool_denied", [])
        result(await fetch(HttpTools(HttpBounds(), Names(), weaker), server.url(CANARY)))

    run(always(answer()), test)


@pytest.mark.parametrize("bounds", [{"private_hosts": ("http://",)}, {"forbidden_networks": ("10.0.0.1/8",)}])
def test_malformed_setting_is_refused_at_the_start(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"http://|10\.0\.0\.1/8"):
        HttpTools(HttpBounds(**bounds))


def test_system_resolver_reads_the_hosts_file() -> None:
    outcome = asyncio.run(fetch(HttpTools(HttpBounds()), "http://localhost:1/"))
    assert failure(outcome).code == "tool_denied"
    names = HttpTools(HttpBounds(private_hosts=("http://localhost:*",)))

    async def test(server: Upstream) -> None:
        assert result(await fetch(names, server.url("localhost")))["status"] == 200

    run(always(answer()), test)


def test_result_beyond_the_bound_of_a_call_is_refused() -> None:
    async def test(server: Upstream) -> None:
        tools, url = http_tools(), server.url(PUBLIC)
        result(await fetch(tools, url, most_bytes=7000))
        refused = failure(await fetch(tools, url, most_bytes=5000))
        assert refused.code == "tool_result_too_large"

    run(always(answer(b"\1" * 1000, content_type="text/plain")), test)  # six bytes each in JSON
