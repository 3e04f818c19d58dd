"""TLS to a pinned address: the server sees the host's name, and its certificate is verified for that name."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.builders.processes.certificates import Authority
from tests.builders.tools.upstreams import Names, Upstream, always, answer, failure, fetch, http_tools, result, upstream

NAMES = {"api_example": "127.0.0.2", "other_example": "127.0.0.2"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "api.example")


def called(authority: Authority, client: ssl.SSLContext, host: str) -> tuple[Upstream, str]:
    """The server after a call, and the outcome: ``ok``, or the failure's message."""

    async def main() -> tuple[Upstream, str]:
        async with upstream(always(answer(b"ok", content_type="text/plain")), tls=authority.server()) as server:
            tools = http_tools(names=Names(**NAMES), tls=client)
            outcome = await fetch(tools, server.url(host, scheme="https"))
            return server, failure(outcome).message if outcome.failure else result(outcome)["text"]

    return asyncio.run(main())


def test_server_name_and_host_are_the_urls(authority: Authority) -> None:
    server, outcome = called(authority, authority.client(), "api.example")
    assert (outcome, server.names, server.reached) == ("ok", ["api.example"], ["127.0.0.2"])
    assert server.asked[0].headers["host"] == f"api.example:{server.port}"


def test_certificate_of_another_name_is_refused(authority: Authority) -> None:
    server, outcome = called(authority, authority.client(), "other.example")
    assert "certificate" in outcome
    assert server.asked == []
    weaker = authority.client()
    weaker.check_hostname = False
    assert called(authority, weaker, "other.example")[1] == "ok"


def test_certificate_of_an_unknown_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    (stranger := tmp_path / "stranger").mkdir()
    server, outcome = called(authority, Authority(stranger, "api.example").client(), "api.example")
    assert "certificate" in outcome
    assert server.asked == []


def test_server_without_tls_behind_https_fails() -> None:
    async def main() -> str:
        async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(b"This is a plain server.", 400))
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.2", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return failure(await fetch(http_tools(), f"https://127.0.0.2:{port}/")).code

    assert asyncio.run(main()) == "tool_failed"


def test_handshake_that_does_not_end_is_cut_at_the_deadline() -> None:
    async def main() -> tuple[str, bool]:
        closed = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(-1)  # until the client closes the connection
            closed.set()
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.2", 0) as server:
            port = server.sockets[0].getsockname()[1]
            late = failure(await fetch(http_tools(seconds=0.3), f"https://127.0.0.2:{port}/"))
            async with asyncio.timeout(30):
                return late.code, await closed.wait()

    assert asyncio.run(main()) == ("tool_timed_out", True)
