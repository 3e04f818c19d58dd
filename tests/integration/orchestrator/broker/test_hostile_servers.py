"""Tool servers that attack the broker: each call ends with its own failure, and other servers are served meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.models.tool_servers import ToolServer
from orchestrator.models.tools import Catalogue
from tests.builders.brokers import Brokers, code
from tests.builders.tools.hostile_server import INSTRUCTIONS, HostileServer, definition
from tests.harness import RedisServer, eventually

MOST_BYTES = 2**20
# How long calls may take: two names, since on a busy machine a flood takes longer than a test of a time-out should.
SERVERS = {"hasty": 2.0, "hostile": 60.0}
SECRET = "the-secret-of-this-server"


@pytest.fixture(scope="module")
def hostile() -> Iterator[HostileServer]:
    made = HostileServer()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory, hostile: HostileServer) -> Iterator[Brokers]:
    directory = tmp_path_factory.mktemp("brokers")
    redis = RedisServer(directory)
    redis.start()
    secrets = directory / "secrets"
    secrets.mkdir()
    origin = hostile.url.removesuffix("/mcp")
    (secrets / "hostile.toml").write_text(f'origin = "{origin}"\ntenants = ["t"]\n[headers]\nX-Key = "{SECRET}"\n')
    made = Brokers(directory, redis, tool_response_bytes=MOST_BYTES, tool_secrets_dir=secrets)
    try:
        for name, seconds in SERVERS.items():
            made.declare(ToolServer(name=name, url=hostile.url, secret="hostile", call_seconds=seconds))
        made.over_http("good")
        made.start()
        for name in (*SERVERS, "good"):
            made.ready(name)
        yield made
    finally:
        made.stop()
        redis.stop()


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("redirect", "tool_failed"),
        ("flood", "tool_result_too_large"),
        ("comments", "tool_result_too_large"),
        ("slow", "tool_timed_out"),
        ("headers", "tool_outcome_unknown"),
        ("compressed", "tool_outcome_unknown"),
        ("another_id", "tool_timed_out"),
        ("deep", "tool_result_invalid"),
        ("number", "tool_result_invalid"),
        ("broken_promise", "tool_result_invalid"),
        ("slow_schema", "ok"),
        ("twice", "ok"),
        ("instruct", "ok"),
        ("ask_user", "tool_failed"),
    ],
)
def test_attack_ends_as_its_own_call(brokers: Brokers, hostile: HostileServer, tool: str, expected: str) -> None:
    before = memory(brokers)
    server = "hasty" if expected == "tool_timed_out" else "hostile"
    call = brokers.submit(tool, server, 90)
    neighbours = [brokers.submit("add", "good", a=n, b=1) for n in range(20)]
    assert [neighbour.result(60).result for neighbour in neighbours] == [str(n + 1) for n in range(20)]
    outcome = call.result(120)
    assert code(outcome) == expected, outcome
    eventually(lambda: brokers.call("good", server).result == '"ok"', "the same server is served on")
    assert brokers.called("", "") == 0
    assert hostile.elsewhere == [], "nothing was sent to another address, the secret least of all"
    assert memory(brokers) - before < 64 * 2**20
    assert brokers.brokers[0].popen.poll() is None


def memory(brokers: Brokers) -> int:
    """The broker's resident bytes."""
    found: int = psutil.Process(brokers.brokers[0].pid).memory_info().rss
    return found


def test_instructions_reach_a_program_as_data_and_the_log_as_text(brokers: Brokers, hostile: HostileServer) -> None:
    assert json.loads(brokers.call("instruct", "hostile").result or "") == INSTRUCTIONS
    described = next(tool for tool in brokers.ready("hostile").tools if tool.name == "instruct")
    assert described.description == INSTRUCTIONS, (
        "descriptions stay as they are; each reader cleans them for its medium"
    )
    assert "\x1b" not in brokers.logs()
    assert SECRET not in brokers.logs()
    assert SECRET not in str(brokers.store.redis.hgetall("mayfly:tools:servers:t"))


def test_answers_swapped_between_calls_stay_within_their_server(brokers: Brokers, hostile: HostileServer) -> None:
    calls = [brokers.submit("swap", "hasty", mark=mark) for mark in ("a", "b")]
    neighbours = [brokers.submit("text", "good", text=str(n)) for n in range(20)]
    assert [json.loads(one.result(60).result or "") for one in neighbours] == [str(n) for n in range(20)]
    assert {code(call.result(60)) for call in calls} <= {"tool_result_invalid", "ok", "tool_timed_out"}
    for mark, call in zip("ab", calls, strict=True):
        assert call.result().result in (None, f'"for {mark}"'), "no call has the other's answer"


def test_large_catalogue_is_cut_with_the_reason(brokers_with: Callable[..., Brokers]) -> None:
    many = [definition(f"tool_{n:05}") for n in range(10_000)]
    odd = [
        definition(name) for name in ("", "a b", "é", "x" * 200, "../../etc/passwd", "résumé", "a\x00b", "__proto__")
    ]
    server = HostileServer(odd + many)
    try:
        found = listed(brokers_with(), server)
        names = {tool.name for tool in found.tools}
        assert len(found.tools) == 1000
        assert names.isdisjoint({"", "a b", "é", "x" * 200, "a\x00b"})
        assert "more tools than the 1000" in found.detail
        assert "left out" in found.detail
    finally:
        server.stop()


def test_catalogue_without_end_is_read_to_a_bound(brokers_with: Callable[..., Brokers]) -> None:
    server = HostileServer(endless=True)
    try:
        found = listed(brokers_with(), server)
        assert 10 < len(found.tools) < 100
        assert len([one for one in server.asked if one.get("method") == "tools/list"]) <= 200
    finally:
        server.stop()


def listed(brokers: Brokers, server: HostileServer) -> Catalogue:
    """The catalogue that a broker takes of a server, while it serves another."""
    brokers.declare(ToolServer(name="hostile", url=server.url))
    brokers.over_http("good")
    brokers.start()
    brokers.ready("good")
    found = brokers.ready("hostile")
    assert brokers.call("add", "good", a=1, b=1).result == "2"
    assert brokers.call("good", "hostile").result == '"ok"'
    return found


def test_five_hundred_files_of_one_tenant_leave_the_broker_at_work(
    brokers_with: Callable[..., Brokers], tmp_path: Path
) -> None:
    directory = tmp_path / "servers"
    directory.mkdir()
    brokers = brokers_with(tool_servers_dir=directory)
    port = brokers.over_http("good")
    brokers.store.tools.servers.remove("t", "good")
    for n in range(500):
        url = f"http://127.0.0.1:{port}/mcp" if n == 0 else "http://127.0.0.1:1/mcp"
        (directory / f"s{n:03}.toml").write_text(f'url = "{url}"\ntenants = ["t"]\n')
    for name in ("Odd Name", "..", "é", "caller", "x\nforged=1", "\udce9"):
        (directory / f"{name}.toml").write_text('url = "http://127.0.0.1:1/mcp"\n')
    (directory / "deep.toml").write_text("x = " + "[" * 100_000)
    (directory / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (directory / "folder.toml").mkdir()
    brokers.start()
    brokers.ready("s000")
    assert brokers.call("add", "s000", a=1, b=1).result == "2"
    log = brokers.brokers[0].log.read_text(encoding="utf-8", errors="replace")
    assert log.count("declaration_unusable") >= 408, "each mistake is logged"
    assert len(brokers.store.tools.servers.of("t", brokers.key)) == 100
    assert "\nforged=1" not in log
    assert "heartbeat_failed" not in log
