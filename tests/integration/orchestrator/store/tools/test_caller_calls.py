"""Calls of tools of the caller on a real Redis: an event each, settled once, and by their execution's tenant alone."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator import queue
from orchestrator.errors import StaleAttempt, StoreFull
from orchestrator.models.tools import CALLER, ToolCall, ToolFailure, ToolOutcome
from orchestrator.store import Store, keys
from orchestrator.store.tools.caller_calls import EVENT_BYTES
from tests.builders.records import KEY, claimed, now, submit
from tests.builders.tool_calls import declare, running, serving, taken, tool_call
from tests.harness import RedisServer, eventually

FINE = ToolOutcome(result="1")
FAILED = ToolOutcome(failure=ToolFailure(code="tool_failed", message="no"))


def call_of(store: Store, execution: str, attempt: int, seconds: float = 30.0, arguments: str = "{}") -> ToolCall:
    """A submitted call of ``caller.lookup``."""
    call = ToolCall(
        id=secrets.token_hex(16), tenant="t", server=CALLER, tool="lookup", arguments=arguments, reply_to="me",
        expires_at=datetime.now(UTC) + timedelta(seconds=seconds), execution=execution, attempt=attempt,
    )  # fmt: skip
    store.tools.calls.submit(call, KEY)
    return call


def events(store: Store, execution: str) -> list[str]:
    entries = store.output.read(execution)
    return [json.loads(entry.data)["call_id"] for entry in entries if entry.type == "tool_call"]


def test_repeated_submission_is_one_event(store: Store) -> None:
    execution, attempt = running(store)
    call = call_of(store, execution, attempt)
    store.tools.calls.submit(call, KEY)
    assert events(store, execution) == [call.id]


def test_repeated_submission_of_an_answered_call_changes_nothing(store: Store) -> None:
    execution, attempt = running(store)
    call = call_of(store, execution, attempt)
    assert store.tools.caller_calls.answer(call.id, "t", execution, FINE) == "ok"
    store.tools.calls.submit(call, KEY)
    assert events(store, execution) == [call.id]
    assert store.tools.calls.answered("me", 0) == [(call.id, FINE)]
    assert store.tools.calls.answered("me", 0) == []


def test_event_is_charged_to_the_tenant(store: Store) -> None:
    execution, attempt = running(store)
    room, record = keys.tenant_room("t"), keys.execution(execution)
    before = int(store.redis.hget(room, "bytes")), int(store.redis.hget(record, "bytes"))
    call_of(store, execution, attempt, arguments=json.dumps({"key": "x" * 5000}))  # all of it is in the stream
    after = int(store.redis.hget(room, "bytes")), int(store.redis.hget(record, "bytes"))
    assert after[0] - before[0] == after[1] - before[1] > 5000


@pytest.mark.parametrize("wrong", ["attempt", "tenant", "execution", "queued"])
def test_call_of_an_attempt_that_does_not_run_is_refused(store: Store, wrong: str) -> None:
    execution, attempt = running(store)
    call = tool_call(server=CALLER, execution=execution, attempt=attempt)
    changed: dict[str, dict[str, Any]] = {
        "attempt": {"attempt": attempt + 1},
        "tenant": {"tenant": "u"},
        "execution": {"execution": "0" * 32},
        "queued": {"execution": submit(store), "attempt": 0},
    }
    call = call.model_copy(update=changed[wrong])
    with pytest.raises(StaleAttempt):
        store.tools.calls.submit(call, KEY)
    assert events(store, execution) == []
    assert not store.redis.exists(keys.tool_call(call.id))


def test_call_is_settled_only_for_its_tenant_and_execution(store: Store) -> None:
    execution, attempt = running(store)
    call = call_of(store, execution, attempt)
    answer = store.tools.caller_calls.answer
    assert answer(call.id, "u", execution, FINE) == "unknown"
    assert answer(call.id, "t", "0" * 32, FINE) == "unknown"
    assert answer("0" * 32, "t", execution, FINE) == "unknown"
    assert store.tools.calls.answered("me", 0) == []
    assert answer(call.id, "t", execution, FAILED) == "ok"
    assert store.tools.calls.answered("me", 0) == [(call.id, FAILED)]


def test_client_cannot_answer_for_a_tool_server(store: Store) -> None:
    serving(store)
    execution, attempt = running(store)
    call = tool_call(execution=execution, attempt=attempt)
    store.tools.calls.submit(call, KEY)
    assert store.tools.caller_calls.answer(call.id, "t", execution, FINE) == "unknown"
    assert [found.call.id for found in taken(store)] == [call.id]
    assert store.tools.caller_calls.answer(call.id, "t", execution, FINE) == "unknown"
    assert store.tools.calls.answered("me", 0) == []


def test_broker_cannot_answer_for_a_client(store: Store) -> None:
    execution, attempt = running(store)
    serving(store, "b")
    call = call_of(store, execution, attempt)
    assert taken(store) == []
    assert store.tools.calls.settle("b", [(call.id, FINE)]) == [False]
    assert store.tools.caller_calls.answer(call.id, "t", execution, FINE) == "ok"


def test_cancelled_call_takes_no_answer(store: Store) -> None:
    execution, attempt = running(store)
    first, second = (call_of(store, execution, attempt) for _ in range(2))
    assert store.tools.calls.drop(first.id) == 1
    assert store.tools.caller_calls.answer(first.id, "t", execution, FINE) == "ended"
    assert store.tools.calls.cancel(execution, attempt) == 1
    assert store.tools.caller_calls.answer(second.id, "t", execution, FINE) == "ended"
    assert store.tools.calls.answered("me", 0) == []


def test_direct_call_of_the_server_caller_goes_to_a_broker(store: Store) -> None:
    declare(store, "files")
    store.tools.brokers.heartbeat("b")
    call = tool_call(server=CALLER)
    store.tools.calls.submit(call, KEY)
    assert (
        store.redis.hget(keys.tool_call(call.id), "upstream") == b"/"
    )  # of unknown servers, which answers tool_unknown


def test_result_without_room_in_redis_is_refused_and_a_failure_is_not(store: Store) -> None:
    execution, attempt = running(store)
    calls = [call_of(store, execution, attempt) for _ in range(2)]
    store.redis.set(keys.ROOM_LEFT, 10)
    with pytest.raises(StoreFull):
        store.tools.caller_calls.answer(calls[0].id, "t", execution, ToolOutcome(result='"' + "x" * 100 + '"'))
    assert store.tools.caller_calls.answer(calls[1].id, "t", execution, FAILED) == "ok"
    store.redis.delete(keys.ROOM_LEFT)
    assert store.tools.caller_calls.answer(calls[0].id, "t", execution, FINE) == "ok"


@pytest.mark.parametrize("arguments", ["{", '{"a": NaN}'])
def test_arguments_that_are_no_json_make_no_event(store: Store, arguments: str) -> None:
    execution, attempt = running(store)
    with pytest.raises(ValueError, match=r"Expecting|Out of range"):
        call_of(store, execution, attempt, arguments=arguments)
    assert events(store, execution) == []


def test_next_attempt_does_not_get_the_answers_of_the_last(store: Store) -> None:
    execution, attempt = running(store)
    first = call_of(store, execution, attempt)
    assert store.records.requeue(execution, attempt)
    assert queue.put_back(store, execution)
    claim = claimed(store, execution)
    store.records.start(claim, now())
    assert store.tools.caller_calls.answer(first.id, "t", execution, FINE) == "ended"
    second = call_of(store, execution, claim.attempt)
    assert store.tools.caller_calls.answer(second.id, "t", execution, FINE) == "ok"


def test_call_wakes_followers(store: Store, server: RedisServer) -> None:
    execution, attempt = running(store)
    client: Any = server.client()
    with client.pubsub() as listener:
        listener.subscribe(f"{keys.WAKE}{execution}")
        assert eventually(lambda: listener.get_message(timeout=1), "the channel is subscribed")["type"] == "subscribe"
        call_of(store, execution, attempt)
        assert eventually(lambda: listener.get_message(timeout=1), "the channel has a message")["data"] == b"tool_call"
    client.close()


def test_large_arguments_are_in_the_event_until_the_call_ends(store: Store) -> None:
    execution, attempt = running(store)
    arguments = {"key": "x" * 2 * EVENT_BYTES}
    call = call_of(store, execution, attempt, arguments=json.dumps(arguments))
    [_, found] = store.records.read(execution, "t")
    [entry] = [entry for entry in found if entry.type == "tool_call"]
    assert len(entry.data) < 1000  # of what every look at the execution reads
    assert entry.span is not None
    assert entry.span[1] > 2 * EVENT_BYTES  # what a follower counts

    def event() -> dict[str, Any]:
        [filled] = store.output.filled(execution, [entry])
        data: dict[str, Any] = json.loads(filled.data)
        return data

    assert (event()["arguments"], event()["call_id"]) == (arguments, call.id)
    assert store.tools.caller_calls.answer(call.id, "t", execution, FINE) == "ok"
    assert (event()["arguments"], event()["call_id"]) == (None, call.id)
    assert not store.redis.hexists(keys.tool_call(call.id), "arguments")


def test_cancelled_call_frees_its_large_arguments(store: Store) -> None:
    execution, attempt = running(store)
    call = call_of(store, execution, attempt, arguments=json.dumps({"key": "x" * 2 * EVENT_BYTES}))
    store.tools.calls.cancel(execution, attempt)
    assert not store.redis.hexists(keys.tool_call(call.id), "arguments")
