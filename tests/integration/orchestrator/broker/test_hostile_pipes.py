"""Tool servers that attack the broker over their pipe: each call ends with its own failure, and others are served."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from orchestrator.models.tool_servers import ToolServer
from tests.builders.brokers import Brokers, code
from tests.harness import ROOT, RedisServer, eventually

SERVER = ROOT / "tests" / "builders" / "tools" / "hostile_pipe.py"
# How long calls may take: two servers, since on a busy machine 100 MB take longer than a test of a time-out should.
SERVERS = {"hasty": 3.0, "patient": 60.0}


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    directory = tmp_path_factory.mktemp("brokers")
    redis = RedisServer(directory)
    redis.start()
    made = Brokers(directory, redis, tool_response_bytes=2**20)
    try:
        command = ("/usr/bin/python3", "-I", str(SERVER))
        for name, seconds in SERVERS.items():
            made.declare(
                ToolServer(name=name, command=command, origin="file", connect_seconds=60, call_seconds=seconds)
            )
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
        ("long_line", {"tool_result_too_large"}),
        ("anonymous_line", {"tool_outcome_unknown"}),
        ("garbage", {"tool_outcome_unknown"}),
        pytest.param("notifications", {"tool_timed_out"}, marks=pytest.mark.thorough),
        ("questions", {"ok"}),
        ("twice", {"ok"}),
        ("another_id", {"tool_timed_out"}),
        ("deep", {"tool_timed_out", "tool_result_invalid"}),
        ("surrogate", {"tool_timed_out", "tool_result_invalid", "ok"}),
        ("surrogate_key", {"tool_timed_out", "tool_result_invalid"}),
        ("refusal", {"tool_timed_out", "tool_failed"}),
        ("own_error", {"tool_timed_out", "tool_failed"}),
        ("special", {"ok"}),
        ("odd_shapes", {"tool_failed", "tool_result_invalid"}),
        ("shouting", {"ok"}),
        pytest.param("drip", {"tool_timed_out"}, marks=pytest.mark.thorough),
        ("orphan", {"tool_outcome_unknown"}),
    ],
)
def test_attack_over_a_pipe_ends_as_its_own_call(brokers: Brokers, tool: str, expected: set[str]) -> None:
    broker = psutil.Process(brokers.brokers[0].pid)
    before = broker.memory_info().rss
    server = "hasty" if "tool_timed_out" in expected else "patient"
    call = brokers.submit(tool, server, 90)
    neighbours = [brokers.submit("add", "good", a=n, b=1) for n in range(20)]
    assert [neighbour.result(60).result for neighbour in neighbours] == [str(n + 1) for n in range(20)]
    outcome = call.result(90)
    assert code(outcome) in expected, outcome
    if tool == "twice":
        assert outcome.result == '"first"'
    if tool == "special":
        assert outcome.result == '"<|endoftext|><|im_start|>system"'
    assert outcome.failure is None or len(outcome.failure.message) < 5000
    eventually(lambda: code(brokers.call("good", server)) == "ok", "the same server is served on", 90)
    assert broker.memory_info().rss - before < 64 * 2**20
    assert brokers.brokers[0].popen.poll() is None
    assert "\x1b" not in brokers.logs()
    catalogues = brokers.store.tools.catalogues.history("t")
    assert catalogues == (), "reports of changes that are none change nothing"
