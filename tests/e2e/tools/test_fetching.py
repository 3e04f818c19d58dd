"""Programs without a network fetch by the built-in tool server what their tenant may reach, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.models.tool_servers import ToolServer
from tests.builders.tools.stack_tools import StackTools
from tests.builders.tools.upstreams import Asked, Upstream, Write, answer, upstream
from tests.harness import Stack

PAGES = """
import json, socket
from mayfly import ToolError, tools
rows = []
for page in range(20):
    got = tools.web.get(url=f"{base}/page?n={{page}}", headers={{"X-Key": "k"}})
    rows += json.loads(got["text"])
print(len(rows), sum(row["n"] for row in rows if row["n"] % 97 == 0))
try:
    socket.create_connection(("127.0.0.1", {port}), timeout=5)
except OSError as error:
    print(type(error).__name__)
"""
REFUSED = """
from mayfly import ToolError, tools
for url in ("http://127.0.0.1:{other}/", "http://169.254.169.254/latest/meta-data/", "{base}/leave", "ftp://127.0.0.1/"):
    try:
        tools.net.get(url=url)
    except ToolError as error:
        print(error.code, error.valid_parameters)
print(tools.net.get(url="{base}/page?n=0")["status"])
"""


async def pages(asked: Asked, write: Write) -> None:
    if asked.target == "/leave":
        await write(answer(status=302, location="http://169.254.169.254/latest/meta-data/"))
        return
    page = int(asked.target.rpartition("=")[2])
    rows = [{"n": page * 50 + row, "text": "x" * 100} for row in range(50)]
    await write(answer(json.dumps(rows).encode(), content_type="application/json"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, images: None) -> Iterator[Stack]:
    """A stack without an engine."""
    made = Stack(tmp_path_factory.mktemp("stack"), driver="oci").start()
    yield made
    made.stop()


def run(stack: Stack, name: str, use: Callable[[StackTools, Upstream], None]) -> None:
    """Use a stack whose tenant may fetch from a server and the metadata service, by the tool server of that name."""

    def exercise(server: Upstream) -> None:
        pattern = f"http://127.0.0.1:{server.port}"
        tools = StackTools(stack, tool_http_private_hosts=[pattern])
        try:
            tools.brokers.declare(ToolServer(name=name, hosts=(pattern, "http://169.254.169.254")))
            tools.brokers.ready(name)
            use(tools, server)
        finally:
            tools.close()

    async def main() -> None:
        async with upstream(pages, ["127.0.0.1"]) as server:
            await asyncio.to_thread(exercise, server)

    asyncio.run(main())


def program(template: str, server: Upstream) -> str:
    return template.format(base=server.url("127.0.0.1", ""), port=server.port, other=server.port + 1)


def test_program_fetches_much_and_returns_little(stack: Stack) -> None:
    def use(tools: StackTools, server: Upstream) -> None:
        found = tools.run(program(PAGES, server), tools=["web.*"])
        assert (found["state"], found["stderr"]) == ("succeeded", "")
        assert found["stdout"].splitlines() == [f"1000 {sum(range(0, 1000, 97))}", "PermissionError"]
        calls: list[dict[str, Any]] = found["tool_calls"]
        assert [(call["tool"], call["outcome"]) for call in calls] == [("web.get", "ok")] * 20
        assert sum(call["response_bytes"] for call in calls) > 100_000
        assert {asked.headers["x-key"] for asked in server.asked} == {"k"}

    run(stack, "web", use)


def test_program_reaches_no_other_host_and_each_attempt_is_an_event(stack: Stack) -> None:
    def use(tools: StackTools, server: Upstream) -> None:
        found = tools.run(program(REFUSED, server), tools=["net.get"])
        assert found["stderr"] == ""
        assert found["stdout"].splitlines() == [
            "tool_denied ()",
            "tool_denied ()",
            "tool_denied ()",
            "tool_arguments_invalid ('url', 'headers')",
            "200",
        ]
        events = [event for event in tools.security(found["id"]) if event["kind"] == "tool_denied"]
        # Refusals of one tool are one event, with the first detail, and their number at the end.
        assert {(event["why"], event["path"]) for event in events} == {("tool_denied", "net.get")}
        assert (events[-1]["count"], f"127.0.0.1:{server.port + 1}" in events[0]["detail"]) == (3, True)
        assert [call["outcome"] for call in found["tool_calls"]][:3] == ["tool_denied"] * 3
        assert {asked.target for asked in server.asked} == {"/leave", "/page?n=0"}

    run(stack, "net", use)
