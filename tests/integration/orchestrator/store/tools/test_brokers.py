"""Leases of brokers: upstreams are shared and move, and a dead broker's calls are not made twice."""

from __future__ import annotations

import pytest

from orchestrator.models.tools import ToolOutcome
from orchestrator.store import Store, keys
from orchestrator.store.tools.calls import UNDECLARED, Upstream
from tests.builders.tool_calls import SERVER, catalogue, declare, serving, submitted, taken

FINE = ToolOutcome(result="1")


def die(store: Store, broker: str) -> None:
    """End a broker's lease, as time does."""
    assert store.redis.delete(keys.tool_broker(broker))


def test_brokers_share_the_upstreams(store: Store) -> None:
    declare(store, *"abcde")
    first = store.tools.brokers.heartbeat("b1")
    assert (first.known, first.share, len(first.upstreams)) == (False, 6, 6)
    assert UNDECLARED in first.upstreams
    second = store.tools.brokers.heartbeat("b2")
    assert (second.share, second.upstreams) == (3, frozenset())
    released = sorted(first.upstreams)[:3]
    assert store.tools.brokers.heartbeat("b1", released).upstreams == first.upstreams - set(released)
    assert store.tools.brokers.heartbeat("b2").upstreams == set(released)
    assert store.tools.brokers.heartbeat("b1").known
    assert store.tools.brokers.alive() == ["b2", "b1"]


def test_upstreams_of_a_dead_broker_move(store: Store) -> None:
    declare(store, *"abc")
    mine = store.tools.brokers.heartbeat("b1").upstreams
    die(store, "b1")
    assert store.tools.brokers.heartbeat("b2").upstreams == mine
    assert store.tools.brokers.alive() == ["b2"]
    again = store.tools.brokers.heartbeat("b1")
    assert (again.known, again.upstreams) == (False, frozenset())


def test_waiting_calls_wake_the_broker_that_takes_over(store: Store) -> None:
    serving(store)
    id = submitted(store)
    die(store, "b")
    store.tools.brokers.heartbeat("c")
    assert store.tools.calls.wait("c", 1)
    assert [call.id for call, _ in taken(store, "c")] == [id]


@pytest.mark.parametrize("idempotent", [True, False])
def test_call_of_a_dead_broker_is_repeated_only_if_idempotent(store: Store, idempotent: bool) -> None:
    serving(store)
    store.tools.catalogues.put("t", catalogue("read", idempotent=idempotent))
    id = submitted(store)
    assert len(taken(store)) == 1
    die(store, "b")
    store.tools.brokers.heartbeat("c")
    again = [call.id for call, _ in taken(store, "c")]
    assert store.tools.calls.settle("b", [(id, FINE)]) == [False], "the dead broker's outcome is refused"
    if idempotent:
        assert again == [id]
        assert store.tools.calls.settle("c", [(id, FINE)]) == [True]
        assert store.tools.calls.answered("me", 0) == [(id, FINE)]
    else:
        assert again == []
        [(found, outcome)] = store.tools.calls.answered("me", 0)
        assert outcome.failure is not None
        assert (found, outcome.failure.code) == (id, "tool_outcome_unknown")


def test_broker_whose_lease_ended_takes_nothing_and_settles_nothing(store: Store) -> None:
    serving(store)
    id = submitted(store)
    taken(store)
    die(store, "b")
    assert store.tools.calls.take("b", {SERVER: 1}) is None
    service = store.tools.brokers.heartbeat("b")
    assert (service.known, SERVER in service.upstreams) == (False, True)
    assert store.tools.calls.settle("b", [(id, FINE)]) == [False]


def test_broker_takes_nothing_of_others_upstreams(store: Store) -> None:
    serving(store)
    store.tools.brokers.heartbeat("c")
    submitted(store)
    found = store.tools.calls.take("c", {SERVER: 1})
    assert found is not None
    assert (found.calls, found.lost) == ((), (SERVER,))


def test_broker_that_leaves_gives_its_upstreams_back(store: Store) -> None:
    serving(store)
    id = submitted(store)
    taken(store)
    store.tools.brokers.leave("b")
    assert store.tools.brokers.alive() == []
    assert SERVER in store.tools.brokers.heartbeat("c").upstreams
    [(found, outcome)] = store.tools.calls.answered("me", 0)
    assert outcome.failure is not None
    assert (found, outcome.failure.code) == (id, "tool_outcome_unknown")
    store.tools.brokers.leave("c")
    assert store.redis.zcard(keys.TOOL_BROKERS) == 0
    assert store.redis.hlen(keys.TOOL_OWNERS) == 0


def test_removed_server_is_served_no_longer(store: Store) -> None:
    serving(store, "b", "files", "git")
    store.tools.servers.remove("t", "git")
    assert store.tools.brokers.heartbeat("b").upstreams == {SERVER, UNDECLARED}
    assert Upstream("t", "git") not in store.tools.servers.upstreams()
