"""An execution that has called a tool which must not be called twice is never started again."""

from __future__ import annotations

import pytest

from orchestrator.janitor.janitor import Janitor
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.builders.records import claimed, now, submit
from tests.builders.tool_calls import catalogue, serving, submitted

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
