"""Outcomes reach what waits for them in a process, each once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, Queue

import pytest
from prometheus_client import REGISTRY

from orchestrator.errors import StaleAttempt
from orchestrator.models.tools import ToolOutcome
from orchestrator.store import Store, keys
from orchestrator.store.tools import replies as module
from orchestrator.store.tools.replies import Replies
from tests.builders.records import KEY
from tests.builders.tool_calls import serving, taken, tool_call
from tests.harness import eventually

FINE = ToolOutcome(result="1")


def skipped() -> float:
    return REGISTRY.get_sample_value("mayfly_store_malformed_total", {"what": "tool outcomes"}) or 0.0


@pytest.fixture
def replies(store: Store) -> Iterator[Replies]:
    made = Replies(store.tools.calls, KEY)
    made.start()
    yield made
    made.stop()


def test_outcome_is_delivered_once(store: Store, replies: Replies) -> None:
    serving(store)
    call, arrived = tool_call(replies.reply_to), Queue[ToolOutcome]()
    replies.submit(call, arrived.put)
    assert len(taken(store)) == 1
    store.tools.calls.settle("b", [(call.id, FINE)])
    assert arrived.get(timeout=60) == FINE
    with pytest.raises(Empty):
        arrived.get(timeout=0.1)


def test_forgotten_call_and_failing_receiver_stop_nothing(store: Store, replies: Replies) -> None:
    serving(store)
    forgotten, failing, wanted = (tool_call(replies.reply_to) for _ in range(3))
    ignored, arrived = Queue[ToolOutcome](), Queue[ToolOutcome]()

    def fail(outcome: ToolOutcome) -> None:
        raise RuntimeError(outcome)

    replies.submit(forgotten, ignored.put)
    replies.submit(failing, fail)
    replies.submit(wanted, arrived.put)
    replies.forget(forgotten.id)
    taken(store)
    store.tools.calls.settle("b", [(call.id, FINE) for call in (forgotten, failing, wanted)])
    assert arrived.get(timeout=60) == FINE
    assert ignored.empty()


def test_refused_call_is_not_waited_for(store: Store, replies: Replies) -> None:
    serving(store)
    with pytest.raises(StaleAttempt):
        replies.submit(tool_call(replies.reply_to, execution="0" * 32, attempt=1), print)
    assert replies._waiting == {}


def test_stop_does_not_wait_for_outcomes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 60.0)
    replies = Replies(store.tools.calls, KEY)
    replies.start()
    eventually(lambda: "blpop" in {client["cmd"] for client in store.redis.client_list()}, "the thread waits")
    stopping = threading.Thread(target=replies.stop)
    stopping.start()
    stopping.join(60)
    assert not stopping.is_alive()


def test_outcomes_are_delivered_after_a_malformed_list(store: Store, replies: Replies) -> None:
    serving(store)
    before = skipped()
    store.redis.set(keys.tool_answers(replies.reply_to), "another type")
    eventually(lambda: skipped() > before, "the failure is counted")
    store.redis.delete(keys.tool_answers(replies.reply_to))
    call, arrived = tool_call(replies.reply_to), Queue[ToolOutcome]()
    replies.submit(call, arrived.put)
    taken(store)
    store.tools.calls.settle("b", [(call.id, FINE)])
    assert arrived.get(timeout=60) == FINE
