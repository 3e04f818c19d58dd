"""Calls that a cancellation finds: in either order, within a number, for a time."""

from __future__ import annotations

import pytest

from orchestrator.store import Store, keys
from orchestrator.store.executions import agent_calls
from orchestrator.store.executions.agent_calls import AgentCalls
from tests.harness import eventually

TENANT = "default"
MOST = 3


@pytest.fixture
def calls(store: Store) -> AgentCalls:
    return AgentCalls(store.redis, MOST)


def test_cancellation_finds_a_running_call_once(calls: AgentCalls) -> None:
    assert not calls.begin(TENANT, "call", "execution", 60)
    assert calls.cancel("other", "call") is None
    assert calls.cancel(TENANT, "another call") is None
    assert calls.cancel(TENANT, "call") == "execution"
    assert calls.cancel(TENANT, "call") is None


def test_cancellation_waits_for_its_call(calls: AgentCalls) -> None:
    assert calls.cancel(TENANT, "call") is None
    assert calls.begin(TENANT, "call", "execution", 60)
    assert not calls.begin(TENANT, "call", "execution", 60), "it is used once"


def test_ended_call_is_not_found(calls: AgentCalls) -> None:
    calls.begin(TENANT, "call", "execution", 60)
    calls.end(TENANT, "call")
    assert calls.cancel(TENANT, "call") is None


def test_calls_are_bounded_in_number(calls: AgentCalls, store: Store) -> None:
    for number in range(MOST + 2):
        calls.begin(TENANT, f"call {number}", f"execution {number}", 60)
    assert store.redis.hlen(keys.tenant_calls(TENANT)) == MOST
    assert calls.cancel(TENANT, "call 0") == "execution 0"
    assert calls.cancel(TENANT, f"call {MOST}") is None
    calls.end(TENANT, f"call {MOST}")
    assert not calls.begin(TENANT, "later", "execution", 60)
    assert calls.cancel(TENANT, "later") == "execution", "there is room again"


def test_calls_are_bounded_in_time(calls: AgentCalls, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_calls, "CANCELLATION_SECONDS", 0.1)
    began = store.now()
    calls.cancel(TENANT, "early")
    calls.begin(TENANT, "call", "execution", 0.1)
    calls.begin(TENANT, "long", "execution", 60)
    assert 0 < store.redis.ttl(keys.tenant_calls(TENANT)) <= 60
    eventually(lambda: store.now() > began + 1.2, "the time of both is over")
    assert not calls.begin(TENANT, "early", "execution", 0.1), "the call came too late for its cancellation"
    assert calls.cancel(TENANT, "call") is None
    began = store.now()
    eventually(lambda: store.now() > began + 1.2, "the time of these two is over, too")
    calls.begin(TENANT, "new", "new execution", 60)  # what is over makes room
    assert calls.cancel(TENANT, "new") == "new execution"
    assert calls.cancel(TENANT, "long") == "execution"


def test_names_of_any_length_take_little(calls: AgentCalls, store: Store) -> None:
    calls.begin(TENANT, "\ud800" * 100_000, "execution", 60)
    (field,) = store.redis.hgetall(keys.tenant_calls(TENANT))
    assert len(field) == 32
