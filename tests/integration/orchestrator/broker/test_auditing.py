"""Calls in the audit log: an entry precedes each call of a tool that may destroy data; refused calls have entries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.audit import Writer
from orchestrator.store import keys
from tests.builders.brokers import Brokers, code, running
from tests.builders.tool_calls import tool_call
from tests.harness import RedisServer, eventually

DESTRUCTIVE = {"read_only": False, "destructive": True}


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """The tool server ``test``, whose destructive tools are refused, and ``keen``, whose may be called."""
    directory = tmp_path_factory.mktemp("brokers")
    redis = RedisServer(directory)
    redis.start()
    made = Brokers(directory, redis)
    try:
        port = made.over_http()
        made.over_http("keen", port, destructive=True, hints={"wait": DESTRUCTIVE, "wait_again": DESTRUCTIVE})
        made.start()
        for name in ("test", "keen"):
            made.ready(name)
        yield made
    finally:
        made.stop()
        redis.stop()


@pytest.fixture(autouse=True)
def nothing_counted(brokers: Brokers) -> None:
    brokers.store.redis.delete(keys.AUDIT, keys.SECURITY_COUNTS + "tool_refused")


def entries(brokers: Brokers) -> list[dict[str, Any]]:
    """The entries of the audit log, without their ids; each was written by this installation."""
    stored = [fields[b"d"] for _, fields in brokers.store.redis.xrange(keys.AUDIT)]
    assert all(map(Writer(brokers.key).wrote, stored))
    found = [json.loads(one.partition(b" ")[2]) for one in stored]
    return [{name: value for name, value in entry.items() if name != "id"} for entry in found]


def test_entry_precedes_the_destructive_call_of_a_program(brokers: Brokers) -> None:
    by = running(brokers, "keen.*", principal="key:k1")
    waiting = brokers.submit("wait", "keen", by=by, seconds=60, mark="precedes")
    eventually(lambda: brokers.called("wait", "precedes"), "the tool is at work")
    assert entries(brokers) == [
        {
            "action": "tool.call", "outcome": "done", "principal": "key:k1", "tenant": "t", "owner": "t",
            "resource": "tool/keen.wait", "execution": by[0],
        }
    ]  # fmt: skip
    assert not waiting.done()
    brokers.store.tools.calls.cancel(*by)


def test_direct_destructive_call_has_the_same_entry(brokers: Brokers) -> None:
    call = tool_call("me", server="keen", tool="delete_all", principal="key:k2")
    brokers.store.tools.calls.submit(call, brokers.key)
    [(_, outcome)] = brokers.store.tools.calls.answered("me", 30)
    assert code(outcome) == "ok"
    [entry] = entries(brokers)
    assert (entry["principal"], entry["resource"], entry["outcome"]) == ("key:k2", "tool/keen.delete_all", "done")
    assert "execution" not in entry


def test_harmless_and_failed_calls_are_no_entries(brokers: Brokers) -> None:
    assert code(brokers.call("add", a=1, b=2)) == "ok"
    assert code(brokers.call("add", "keen", by=running(brokers, "*"), a=1, b=2)) == "ok"
    assert code(brokers.call("wait", "keen", secondss=1)) == "tool_arguments_invalid"
    assert code(brokers.call("fail")) == "tool_failed"
    assert entries(brokers) == []


@pytest.mark.parametrize(
    ("granted", "server", "tool", "expected"),
    [
        (("*",), "test", "delete_all", "tool_denied"),
        (("test.text",), "test", "add", "tool_denied"),
        (("*",), "nowhere", "add", "tool_unknown"),
    ],
)
def test_refused_calls_are_written_at_milestones(
    brokers: Brokers, granted: tuple[str, ...], server: str, tool: str, expected: str
) -> None:
    by = running(brokers, *granted, principal="key:k3")
    assert {code(brokers.call(tool, server, by=by)) for _ in range(11)} == {expected}
    found = entries(brokers)
    assert [entry["count"] for entry in found] == [1, 10]
    for entry in found:
        assert (entry["outcome"], entry["code"], entry["principal"]) == ("refused", expected, "key:k3")
        assert (entry["resource"], entry["execution"], entry["tenant"]) == (f"tool/{server}.{tool}", by[0], "t")


def test_forged_call_is_an_entry_of_no_principal(brokers: Brokers) -> None:
    """Also where it names an execution whose principal the broker knows."""
    by = running(brokers, "*", principal="key:k4")
    assert code(brokers.call("add", by=by, a=1, b=2)) == "ok"
    call = tool_call("me", server="test", tool="add", execution=by[0], attempt=by[1], arguments='{"a": 1, "b": 2}')
    brokers.store.tools.calls.submit(call, b"another key of 16 bytes")
    [(_, outcome)] = brokers.store.tools.calls.answered("me", 30)
    assert code(outcome) == "tool_denied"
    [entry] = entries(brokers)
    assert (entry["outcome"], entry["owner"], entry["code"]) == ("refused", "t", "tool_denied")
    assert not {"principal", "tenant"} & set(entry)


def test_call_that_cannot_be_entered_is_not_made(brokers: Brokers) -> None:
    brokers.store.redis.set(keys.AUDIT, "another type")
    outcome = brokers.call("wait", "keen", seconds=0, mark="unaudited")
    assert code(outcome) == "tool_unavailable"
    assert brokers.called("wait", "unaudited") == 0
    assert code(brokers.call("delete_all")) == "tool_denied", "a refusal stays a refusal"
    brokers.store.redis.delete(keys.AUDIT)
    assert code(brokers.call("wait", "keen", seconds=0, mark="unaudited")) == "ok"
