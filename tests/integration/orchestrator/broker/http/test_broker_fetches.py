"""A broker process with the built-in tool server, from its declaration to the calls of a tenant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.models.fleet import FETCH_CACHE, Switch
from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import ToolOutcome
from orchestrator.store import keys
from tests.builders.brokers import Brokers, code
from tests.builders.tools.upstreams import Upstream, always, answer, result, upstream
from tests.harness import eventually

PERSONAL = b'{"mail": "jane.doe@example.org"}'


def declared(brokers: Brokers, name: str = "web", **fields: Any) -> None:
    brokers.declare(ToolServer(name=name, **fields))
    brokers.ready(name)


def test_declared_hosts_are_fetched_from(brokers_with: Callable[..., Brokers]) -> None:
    async def main() -> None:
        async with upstream(always(answer(PERSONAL, content_type="application/json"))) as server:
            pattern = f"http://127.0.0.1:{server.port}"
            brokers = brokers_with(tool_http_private_hosts=[pattern])
            await asyncio.to_thread(exercise, brokers, server, pattern)

    def exercise(brokers: Brokers, server: Upstream, pattern: str) -> None:
        brokers.start()
        declared(brokers, hosts=(pattern,))
        declared(brokers, "closed", hosts=())
        declared(brokers, "posting", hosts=(pattern,), destructive=True)
        declared(brokers, "filtered", hosts=(pattern,), filtered=True)
        url = server.url("127.0.0.1")

        def call(tool: str, name: str = "web", **arguments: Any) -> ToolOutcome:
            return brokers.call(tool, name, **{"url": url, **arguments})

        assert [tool.full_name for tool in brokers.ready("web").tools] == ["web.get", "web.post"]
        got = result(call("get"))
        assert (got["status"], got["text"]) == (200, PERSONAL.decode())
        assert code(call("get", url="http://127.0.0.1:1/")) == "tool_denied"
        assert code(call("get", "closed")) == "tool_denied"
        assert code(call("get", uri="x")) == "tool_arguments_invalid"
        assert code(call("post", body="x")) == "tool_denied"  # it may destroy data: the declaration must allow that
        assert result(call("post", "posting", body="x"))["status"] == 200
        assert [asked.method for asked in server.asked] == ["GET", "POST"]
        filtered = result(call("get", "filtered"))
        assert "jane.doe@example.org" not in json.dumps(filtered)

    asyncio.run(main())


def test_private_host_is_denied_unless_the_operator_names_the_host(brokers_with: Callable[..., Brokers]) -> None:
    async def main() -> None:
        async with upstream(always(answer())) as server:
            await asyncio.to_thread(exercise, brokers_with(), server)

    def exercise(brokers: Brokers, server: Upstream) -> None:
        brokers.start()
        declared(brokers, hosts=("http://*:*",))
        for host in ("127.0.0.1", "127.0.0.2", "localhost", "[::1]", "0.0.0.0", "127.1", "2130706433"):
            assert code(brokers.call("get", "web", url=server.url(host))) == "tool_denied"
        assert server.asked == []
        found = [json.loads(fields[b"d"].partition(b" ")[2]) for _, fields in brokers.store.redis.xrange(keys.AUDIT)]
        audited = [(entry["resource"], entry["outcome"], entry["code"], entry["count"]) for entry in found]
        assert audited[:1] == [("tool/web.get", "refused", "tool_denied", 1)], "as a tool that the caller may not use"

    asyncio.run(main())


def test_hosts_that_do_not_answer_do_not_close_the_server_for_others(brokers_with: Callable[..., Brokers]) -> None:
    async def hang(asked: Any, write: Any) -> None:
        await (asyncio.Event().wait() if asked.target == "/hang" else write(answer()))

    async def main() -> None:
        async with upstream(hang) as server:
            brokers = brokers_with(tool_http_private_hosts=["http://127.0.0.1:*"], tool_http_seconds=4.0)
            await asyncio.to_thread(exercise, brokers, server)

    def exercise(brokers: Brokers, server: Upstream) -> None:
        brokers.start()
        declared(brokers, hosts=("http://127.0.0.1:*",))
        late = [brokers.submit("get", "web", url=server.url("127.0.0.1", "/hang")) for _ in range(7)]
        assert [code(call.result(60)) for call in late] == ["tool_timed_out"] * 7
        assert code(brokers.call("get", "web", url=server.url("127.0.0.1"))) == "ok"

    asyncio.run(main())


def test_switched_off_cache_is_empty_and_stays_empty_until_switched_on(brokers_with: Callable[..., Brokers]) -> None:
    bodies = count(1)

    async def numbered(_: Any, write: Any) -> None:
        await write(answer(str(next(bodies)).encode(), cache_control="max-age=3600"))

    async def main() -> None:
        async with upstream(numbered) as server:
            brokers = brokers_with(tool_http_private_hosts=["http://127.0.0.1:*"])
            await asyncio.to_thread(exercise, brokers, server)

    def exercise(brokers: Brokers, server: Upstream) -> None:
        brokers.start()
        declared(brokers, hosts=("http://127.0.0.1:*",))

        def fetch(path: str = "/") -> tuple[int, bool]:
            got = result(brokers.call("get", "web", url=server.url("127.0.0.1", path)))
            return int(got["text"]), got["from_cache"]

        assert [fetch(), fetch()] == [(1, False), (1, True)]
        brokers.store.switches.put(Switch(feature=FETCH_CACHE, enabled=False))
        eventually(lambda: not fetch("/other")[1] and not fetch("/other")[1], "the broker follows")
        first, again = fetch(), fetch()
        assert (first[1], again[1]) == (False, False)
        assert 1 < first[0] < again[0]
        brokers.store.switches.put(Switch(feature=FETCH_CACHE))
        cached = eventually(lambda: (one := fetch())[1] and one, "answers are cached again")
        assert cached[0] > again[0], "the answer from before is forgotten"

    asyncio.run(main())


@pytest.mark.parametrize(
    "fields", [{"hosts": ("http://",)}, {"hosts": ("example.org",), "url": "https://example.org/mcp"}, {}]
)
def test_malformed_declaration_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="hosts"):
        ToolServer(name="web", **fields)
