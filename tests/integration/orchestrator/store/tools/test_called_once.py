"""An execution that has called a tool which must not be called twice is never started again. An audited call is entered
once, and only by the broker that has it.
"""

from __future__ import annotations

import pytest

from orchestrator.janitor.janitor import Janitor
from orchestrator.settings import Settings
from orchestrator.store import Store, keys
from tests.builders.records import claimed, now, submit
from tests.builders.tool_calls import catalogue, serving, submitted, taken

LATER = 60.0


def lost_execution(store: Store, settings: Settings, *tools: str, server: str = "files") -> tuple[str, str | None]:
    """The state and message of an execution that called these tools, after its worker was lost."""
    serving(store)
    store.tools.catalogues.put("t", catalogue("read", idempotent=True))
    id = submit(store)
    claim = claimed(store, id, "dead")
    store.records.start(claim, now())
    for tool in tools:
        submitted(store, execution=id, attempt=claim.attempt, tool=tool, server=server)
    Janitor(store, settings).round(now() + LATER)
    execution = store.records.get(id, None)
    return execution.state, execution.message


@pytest.mark.parametrize("tools", [(), ("read",), ("read", "read")])
def test_calls_that_may_be_repeated_leave_room_for_another_attempt(
    store: Store, settings: Settings, tools: tuple[str, ...]
) -> None:
    assert lost_execution(store, settings, *tools)[0] == "queued"


@pytest.mark.parametrize("tools", [("write",), ("read", "write", "read")])
def test_a_call_that_must_not_be_repeated_ends_the_execution_with_its_worker(
    store: Store, settings: Settings, tools: tuple[str, ...]
) -> None:
    state, message = lost_execution(store, settings, *tools)
    assert state == "errored"
    assert message == "The worker was lost after the program had called a tool that must not be called twice."


def test_a_tool_of_the_client_counts_as_one_that_must_not_be_called_twice(store: Store, settings: Settings) -> None:
    assert lost_execution(store, settings, "own", server="caller")[0] == "errored"


def test_a_mark_stays_for_later_attempts(store: Store, settings: Settings) -> None:
    serving(store)
    id = submit(store)
    claim = claimed(store, id)
    store.records.start(claim, now())
    submitted(store, execution=id, attempt=claim.attempt)
    assert store.records.requeue(id, claim.attempt)
    assert store.records.has_called(id)


def entered(store: Store) -> list[bytes]:
    return [fields[b"d"] for _, fields in store.redis.xrange(keys.AUDIT)]


def test_call_is_entered_once(store: Store) -> None:
    """Also if Redis's answer was lost, and if another broker begins the call again."""
    serving(store)
    store.tools.catalogues.put("t", catalogue("read", idempotent=True))
    id = submitted(store)
    taken(store)
    assert [store.tools.calls.begin("b", id, f"entry {n}") for n in range(2)] == [True, True]
    store.redis.delete(keys.tool_broker("b"))
    store.tools.brokers.heartbeat("c")
    assert [call.id for call, _ in taken(store, "c")] == [id]
    assert store.tools.calls.begin("c", id, "entry 2")
    assert entered(store) == [b"entry 0"]


def test_call_that_is_no_longer_the_brokers_is_not_entered(store: Store) -> None:
    serving(store)
    waiting, others = submitted(store), submitted(store)
    taken(store, room=1)
    assert not store.tools.calls.begin("another", waiting, "entry"), "another broker has it"
    assert not store.tools.calls.begin("b", others, "entry"), "no broker has it"
    assert not store.tools.calls.begin("b", "0" * 32, "entry"), "there is no such call"
    store.redis.delete(keys.tool_broker("b"))
    store.tools.brokers.heartbeat("c")
    assert not store.tools.calls.begin("b", waiting, "entry"), "it was settled when the lease had ended"
    assert entered(store) == []
