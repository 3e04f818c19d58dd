"""A broker as a process: calls of real tool servers, and their failures."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.builders.brokers import Brokers, code
from tests.harness import ROOT, eventually


def test_call_gives_plain_data(brokers: Brokers) -> None:
    assert brokers.call("add", a=1, b=2).result == "3"
    assert brokers.call("rows", count=1).result == '[{"id": 0, "name": "row 0"}]'
    assert brokers.call("text", text="hé").result == '"hé"'
    assert brokers.call("empty").result == "null"


def test_resources_and_prompts_are_called_as_tools(brokers: Brokers) -> None:
    names = {tool.name for tool in brokers.ready().tools}
    assert {"resources/list", "resources/read", "prompts/list", "prompts/get"} <= names
    assert '"text": "hello"' in (brokers.call("resources/read", uri="test://greeting").result or "")
    assert "Review x" in (brokers.call("prompts/get", name="review", arguments={"code": "x"}).result or "")


def test_metrics_of_the_guide_are_those_of_the_broker(brokers: Brokers) -> None:
    assert code(brokers.call("add", a=1, b=2)) == "ok"
    eventually(lambda: brokers.metrics().get('mayfly_tool_calls_total{outcome="ok"}'), "the call is counted")
    eventually(lambda: brokers.metrics()['mayfly_tool_servers{state="ready"}'] == 1, "the server is counted")
    assert brokers.metrics()["mayfly_tool_call_seconds_count"] >= 1
    guide = (ROOT / "docs" / "tool-servers.md").read_text(encoding="utf-8").partition("## Metrics and health")[2]
    named = set(re.findall(r"`(mayfly_\w+)`", guide))
    text = httpx2.get(f"http://127.0.0.1:{brokers.ports[0]}/metrics", timeout=60).text
    assert len(named) >= 7
    assert named - set(re.findall(r"# TYPE (mayfly_\w+) ", text)) == set()


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("ad", {}, "tool_unknown"),
        ("add", {"a": 1, "bb": 2}, "tool_arguments_invalid"),
        ("delete_all", {}, "tool_denied"),
        ("fail", {}, "tool_failed"),
    ],
)
def test_refused_call_has_its_code_and_suggestions(
    brokers: Brokers, tool: str, arguments: dict[str, Any], expected: str
) -> None:
    outcome = brokers.call(tool, **arguments)
    assert code(outcome) == expected
    assert outcome.failure is not None
    if expected == "tool_unknown":
        assert outcome.failure.did_you_mean[0] == "test.add"
    if expected == "tool_arguments_invalid":
        assert (outcome.failure.valid_parameters, outcome.failure.did_you_mean) == (("a", "b"), ("b",))


def test_unknown_server_is_answered(brokers: Brokers) -> None:
    outcome = brokers.call("add", server="tst", a=1, b=2)
    assert code(outcome) == "tool_unknown"
    assert outcome.failure is not None
    assert outcome.failure.did_you_mean[0] == "test.add"


def test_call_that_takes_too_long_ends_and_the_next_is_served(brokers: Brokers) -> None:
    assert code(brokers.call("wait", within=0.5, seconds=30)) == "tool_timed_out"
    assert brokers.call("add", a=1, b=2).result == "3"


@pytest.mark.parametrize("way", ["over_pipe", "over_http"])
def test_misbehaving_server_costs_only_its_call(brokers_with: Callable[..., Brokers], way: str) -> None:
    brokers = brokers_with(tool_response_bytes=2**20)
    getattr(brokers, way)("bad")
    brokers.over_http("good")
    brokers.start()
    for name in ("bad", "good"):
        brokers.ready(name)
    huge = brokers.submit("huge", "bad", bytes=100 * 2**20)
    neighbours = [brokers.submit("add", "good", a=n, b=1) for n in range(20)]
    assert [neighbour.result(60).result for neighbour in neighbours] == [str(n + 1) for n in range(20)]
    assert code(huge.result(60)) == "tool_result_too_large"
    assert code(brokers.call("garbage", "bad")) in ("tool_result_invalid", "ok")
    assert brokers.call("add", "bad", a=1, b=2).result == "3"
    waiting = brokers.submit("wait", "bad", seconds=20, mark="w")
    eventually(lambda: brokers.called("wait", "w"), "the call has begun")
    assert code(brokers.call("die", "bad", mark="d")) == "tool_outcome_unknown"
    assert code(waiting.result(60)) == "tool_outcome_unknown"
    assert brokers.call("add", "good", a=1, b=1).result == "2"
    if way == "over_pipe":
        assert brokers.call("add", "bad", a=1, b=2).result == "3", "it was started again"
    else:
        # A call that the broker sends before it sees the end has no known outcome.
        eventually(
            lambda: code(brokers.call("add", "bad", a=1, b=2)) == "tool_unavailable", "the server is known to be away"
        )
    assert (brokers.called("wait", "w"), brokers.called("die", "d")) == (1, 1)
