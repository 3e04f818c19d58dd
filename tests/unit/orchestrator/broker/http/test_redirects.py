"""Each redirect passes the same checks as the first request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from orchestrator.broker.http import requests
from tests.builders.tools.upstreams import (
    Asked,
    Names,
    Upstream,
    Write,
    answer,
    failure,
    fetch,
    http_tools,
    result,
    upstream,
)

NAMES = {"a_example": "127.0.0.2", "b_example": "127.0.0.2", "inside_example": "127.0.0.1"}


async def follow_path(asked: Asked, write: Write) -> None:
    """``/302/URL`` redirects to URL, anything else is answered."""
    status, _, target = asked.target[1:].partition("/")
    await write(answer(b"", int(status), location=target) if target else answer(asked.method.encode()))


def run(test: Callable[[Upstream], Awaitable[Any]]) -> None:
    async def main() -> None:
        async with upstream(follow_path) as server:
            await test(server)

    asyncio.run(main())


@pytest.mark.parametrize("status", sorted(requests.REDIRECTS))
def test_redirect_is_followed(status: int) -> None:
    async def test(server: Upstream) -> None:
        target = server.url("b.example", "/end")
        got = result(await fetch(http_tools(names=Names(**NAMES)), server.url("a.example", f"/{status}/{target}")))
        assert (got["status"], got["url"]) == (200, target)

    run(test)


@pytest.mark.parametrize("status", [300, 304, 305])
def test_other_status_is_a_result(status: int) -> None:
    async def test(server: Upstream) -> None:
        url = server.url("a.example", f"/{status}/http://b.example/")
        assert result(await fetch(http_tools(names=Names(**NAMES)), url))["status"] == status

    run(test)


def test_redirect_to_a_host_outside_the_list_is_denied() -> None:
    async def test(server: Upstream) -> None:
        url = server.url("a.example", "/302/" + server.url("b.example", "/end"))
        tools = http_tools(names=Names(**NAMES))
        denied = failure(await fetch(tools, url, hosts=["http://a.example:*"]))
        assert (denied.code, len(server.asked)) == ("tool_denied", 1)
        result(await fetch(tools, url, hosts=["http://a.example:*", "http://b.example:*"]))

    run(test)


def test_redirect_to_a_private_address_is_denied() -> None:
    async def test(server: Upstream) -> None:
        url = server.url("a.example", "/302/" + server.url("inside.example", "/end"))
        denied = failure(await fetch(http_tools(names=Names(**NAMES)), url))
        assert (denied.code, [asked.headers["host"] for asked in server.asked]) == (
            "tool_denied",
            [f"a.example:{server.port}"],
        )
        weaker = http_tools(names=Names(**NAMES), private_hosts=("http://inside.example:*",))
        result(await fetch(weaker, url))
        assert server.reached[-1] == "127.0.0.1"

    run(test)


def test_redirect_to_the_same_name_is_looked_up_and_checked_again() -> None:
    async def test(server: Upstream) -> None:
        names = Names(a_example=["127.0.0.2", "127.0.0.1"])
        denied = failure(await fetch(http_tools(names=names), server.url("a.example", "/302//end")))
        assert (denied.code, names.lookups, len(server.asked)) == ("tool_denied", ["a.example"] * 2, 1)

    run(test)


def test_number_of_redirects_is_bounded() -> None:
    async def test(server: Upstream) -> None:
        url = server.url("a.example", "/302/" * 3 + "/end")
        names = Names(**NAMES)
        refused = failure(await fetch(http_tools(names=names, redirects=2), url))
        assert (refused.code, refused.message) == ("tool_failed", "There were more than 2 redirects.")
        assert len(server.asked) == 3
        result(await fetch(http_tools(names=names, redirects=3), url))

    run(test)


def test_credentials_stay_with_their_host() -> None:
    secrets = {"Authorization": "secret", "Cookie": "secret", "X-Api-Key": "secret"}

    async def test(server: Upstream) -> None:
        tools = http_tools(names=Names(**NAMES))
        for host, kept in (("a.example", 3), ("b.example", 0)):
            url = server.url("a.example", "/302/" + server.url(host, "/end"))
            result(await fetch(tools, url, headers=secrets))
            assert list(server.asked[-1].headers.values()).count("secret") == kept

    run(test)


def test_control_credentials_follow_if_every_header_counts_as_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "SAFE_HEADERS", frozenset(("authorization",)))

    async def test(server: Upstream) -> None:
        url = server.url("a.example", "/302/" + server.url("b.example", "/end"))
        result(await fetch(http_tools(names=Names(**NAMES)), url, headers={"Authorization": "secret"}))
        assert server.asked[-1].headers["authorization"] == "secret"

    run(test)


def test_post_is_redirected_within_its_host_only() -> None:
    async def test(server: Upstream) -> None:
        tools = http_tools(names=Names(**NAMES))
        got = result(await fetch(tools, server.url("a.example", "/307//end"), body="x"))
        assert got["text"] == "POST"
        assert (server.asked[-1].method, server.asked[-1].body) == ("POST", b"x")
        refused = failure(
            await fetch(tools, server.url("a.example", "/307/" + server.url("b.example", "/end")), body="x")
        )
        assert (refused.code, len(server.asked)) == ("tool_failed", 3)
        result(await fetch(tools, server.url("a.example", "/303/" + server.url("b.example", "/end")), body="x"))
        assert (server.asked[-1].method, server.asked[-1].body) == ("GET", b"")

    run(test)
