"""The tools of an execution are in its sealed specification, and nowhere else."""

from __future__ import annotations

import pytest

from orchestrator.broker.process import owner_of
from orchestrator.errors import SpecificationRejected
from orchestrator.store import keys
from orchestrator.store.executions.sealing import seal
from tests.builders.brokers import Brokers, code, running
from tests.builders.records import specification
from tests.builders.tool_calls import tool_call
from tests.harness import eventually


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        (("test.add",), "ok"),
        (("test.*",), "ok"),
        (("*",), "ok"),
        (("test.text", "other.add"), "tool_denied"),
        ((), "tool_denied"),
    ],
)
def test_sealed_specification_decides_on_calls(brokers: Brokers, granted: tuple[str, ...], expected: str) -> None:
    assert code(brokers.call("add", by=running(brokers, *granted), a=1, b=2)) == expected


def test_suggestions_name_only_granted_tools(brokers: Brokers) -> None:
    outcome = brokers.call("ad", by=running(brokers, "test.text"), a=1)
    assert outcome.failure is not None
    assert outcome.failure.code == "tool_unknown"
    assert "test.add" not in outcome.failure.did_you_mean
    granted = brokers.call("ad", by=running(brokers, "test.add"), a=1)
    assert granted.failure is not None
    assert granted.failure.did_you_mean == ("test.add",)


def test_forged_specification_grants_nothing(brokers: Brokers) -> None:
    id, attempt = running(brokers)
    forged, signature = seal(specification().model_copy(update={"id": id, "tools": ("*",)}), b"another key of 16 bytes")
    brokers.store.redis.hset(keys.execution(id), mapping={"spec": forged, "signature": signature})
    assert code(brokers.call("add", by=(id, attempt), a=1, b=2)) == "tool_denied"


def test_specification_of_another_execution_grants_nothing(brokers: Brokers) -> None:
    id, attempt = running(brokers)
    other, _ = running(brokers, "*")
    found = brokers.store.redis.hmget(keys.execution(other), "spec", "signature")
    brokers.store.redis.hset(keys.execution(id), mapping={"spec": found[0], "signature": found[1]})
    assert code(brokers.call("add", by=(id, attempt), a=1, b=2)) == "tool_denied"


def test_specification_of_another_tenant_grants_nothing(brokers: Brokers) -> None:
    id, _ = running(brokers, "*")
    assert owner_of(brokers.store, brokers.key, id, "t").grants == ("*",)
    with pytest.raises(SpecificationRejected, match="another tenant"):
        owner_of(brokers.store, brokers.key, id, "u")


def test_call_without_the_installations_seal_is_refused(brokers: Brokers) -> None:
    for key, expected in ((brokers.key, "ok"), (b"another key of 16 bytes", "tool_denied")):
        call = tool_call("me", server="test", tool="add", arguments='{"a": 1, "b": 2}')
        brokers.store.tools.calls.submit(call, key)
        [(_, outcome)] = brokers.store.tools.calls.answered("me", 60)
        assert code(outcome) == expected


def test_cancelled_execution_cancels_its_call(brokers: Brokers) -> None:
    by = running(brokers, "*")
    waiting = brokers.submit("wait", by=by, seconds=60, mark="c")
    eventually(lambda: brokers.called("wait", "c"), "the call has begun")
    assert brokers.store.tools.calls.cancel(*by) == 1
    eventually(
        lambda: brokers.metrics().get('mayfly_tool_calls_total{outcome="tool_cancelled"}'), "the call is cancelled"
    )
    assert not waiting.done()
    assert brokers.called("waited", "c") == 0
