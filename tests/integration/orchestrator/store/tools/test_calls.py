"""Calls of tools on a real Redis: each is taken and settled at most once, and its outcome is read at least once."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.errors import StaleAttempt, StoreFull
from orchestrator.models.tools import ToolFailure, ToolOutcome
from orchestrator.store import Store, keys
from orchestrator.store.tools import calls as calls_module
from orchestrator.store.tools.calls import UNDECLARED
from orchestrator.store.tools.sealing import is_sealed_call
from tests.builders.records import KEY, claimed, now, result, submit
from tests.builders.tool_calls import SERVER, running, serving, submitted, taken, tool_call
from tests.harness import eventually

FINE = ToolOutcome(result='{"lines": 3}')
FAILED = ToolOutcome(failure=ToolFailure(code="tool_failed", message="no such file", did_you_mean=("write",)))


def code_of(outcome: ToolOutcome) -> str:
    assert outcome.failure is not None
    return outcome.failure.code


def test_a_call_from_its_submission_to_its_outcome(store: Store) -> None:
    serving(store)
    call = tool_call(arguments='{"path": "ä\u2028"}', seconds=20)
    store.tools.calls.submit(call, KEY)
    assert store.tools.calls.wait("b", 1)
    [(found, seal)] = taken(store)
    assert found.model_copy(update={"expires_at": call.expires_at}) == call
    assert 0 < (found.expires_at.timestamp() - time.time()) <= 20
    assert is_sealed_call(found, seal, KEY)
    assert taken(store) == []
    assert store.tools.calls.settle("b", [(call.id, FINE)]) == [True]
    assert store.tools.calls.answered("me", 1) == [(call.id, FINE)]
    assert store.tools.calls.answered("me", 0) == []


@pytest.mark.parametrize("outcome", [FINE, FAILED], ids=["result", "failure"])
def test_outcome_arrives_as_settled(store: Store, outcome: ToolOutcome) -> None:
    serving(store)
    id = submitted(store)
    taken(store)
    store.tools.calls.settle("b", [(id, outcome)])
    assert store.tools.calls.answered("me", 1) == [(id, outcome)]


def test_seal_covers_tool_and_arguments(store: Store) -> None:
    serving(store)
    submitted(store)
    [(call, seal)] = taken(store)
    for field, value in {
        "tenant": "u",
        "server": "x",
        "tool": "x",
        "arguments": "1",
        "attempt": 2,
        "principal": "key:x",
    }.items():
        assert not is_sealed_call(call.model_copy(update={field: value}), seal, KEY), field
    assert not is_sealed_call(call, seal, b"another key")


def test_repeated_submission_changes_nothing(store: Store) -> None:
    serving(store)
    call = tool_call()
    for _ in range(2):
        store.tools.calls.submit(call, KEY)
    assert len(taken(store)) == 1
    store.tools.calls.submit(call, KEY)
    assert taken(store) == []
    store.tools.calls.settle("b", [(call.id, FINE)])
    assert store.tools.calls.answered("me", 1) == [(call.id, FINE)]
    assert store.tools.calls.answered("me", 0) == []
    store.tools.calls.submit(call, KEY)
    assert taken(store) == []


def test_calls_beyond_the_requested_number_wait(store: Store) -> None:
    serving(store)
    ids = [submitted(store) for _ in range(5)]
    assert [call.id for call, _ in taken(store, room=2)] == ids[:2]
    assert [call.id for call, _ in taken(store, room=0)] == []
    assert [call.id for call, _ in taken(store)] == ids[2:]


def test_large_arguments_are_taken_a_part_at_a_time_and_the_bell_rings_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "TAKEN_BYTES", 1000)
    serving(store)
    ids = [submitted(store, arguments=" " * 600) for _ in range(3)]
    found = []
    while store.tools.calls.wait("b", 0.05):
        part = [call.id for call, _ in taken(store)]
        assert len(part) <= 2
        found += part
    assert found == ids


def test_only_the_running_attempt_can_call(store: Store) -> None:
    serving(store)
    execution, attempt = running(store)
    submitted(store, execution=execution, attempt=attempt)
    assert len(taken(store)) == 1
    for wrong in ({"attempt": attempt + 1}, {"attempt": attempt, "tenant": "u"}):
        with pytest.raises(StaleAttempt):
            submitted(store, **{"execution": execution, **wrong})
    queued = submit(store)
    with pytest.raises(StaleAttempt):
        submitted(store, execution=queued, attempt=0)


def test_waiting_call_of_an_ended_attempt_is_not_taken(store: Store) -> None:
    serving(store)
    id = submit(store)
    claim = claimed(store, id)
    store.records.start(claim, now())
    submitted(store, execution=id, attempt=claim.attempt)
    store.records.commit(claim, result())
    assert taken(store) == []
    with pytest.raises(StaleAttempt):
        submitted(store, execution=id, attempt=claim.attempt)


def test_call_past_its_deadline_is_settled_as_timed_out(store: Store) -> None:
    serving(store)
    late, early = submitted(store, seconds=0.05), submitted(store)
    eventually(lambda: float(store.redis.hget(keys.tool_call(late), "deadline")) < store.now(), "the deadline passes")
    assert [call.id for call, _ in taken(store)] == [early]
    [(id, outcome)] = store.tools.calls.answered("me", 1)
    assert (id, code_of(outcome)) == (late, "tool_timed_out")


def test_call_is_settled_once_and_only_by_its_broker(store: Store) -> None:
    serving(store)
    id = submitted(store)
    assert store.tools.calls.settle("b", [(id, FINE)]) == [False], "it is not taken"
    taken(store)
    assert store.tools.calls.settle("c", [(id, FAILED)]) == [False]
    assert store.tools.calls.settle("b", [(id, FINE), (id, FAILED), ("0" * 32, FINE)]) == [True, False, False]
    assert store.tools.calls.answered("me", 1) == [(id, FINE)]


def test_outcome_whose_transfer_failed_is_read_again(store: Store) -> None:
    serving(store)
    id = submitted(store)
    taken(store)
    store.tools.calls.settle("b", [(id, FINE)])
    assert store.tools.calls.answered("me", 1) == [(id, FINE)]
    store.tools.calls._read.clear()  # as if the answer had been lost on its way
    assert store.tools.calls.answered("me", 0) == [(id, FINE)]
    assert store.tools.calls.answered("me", 0) == []


def test_large_outcomes_are_read_a_part_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "COLLECTED_BYTES", 1000)
    serving(store)
    ids = [submitted(store) for _ in range(3)]
    taken(store)
    store.tools.calls.settle("b", [(id, ToolOutcome(result=" " * 600)) for id in ids])
    assert [[id for id, _ in store.tools.calls.answered("me", 0)] for _ in range(4)] == [[id] for id in ids] + [[]]


def test_outcomes_go_to_the_process_that_called(store: Store) -> None:
    serving(store)
    mine, other = submitted(store), submitted(store, reply_to="you")
    taken(store)
    store.tools.calls.settle("b", [(other, FINE), (mine, FAILED)])
    assert store.tools.calls.answered("me", 0) == [(mine, FAILED)]
    assert store.tools.calls.answered("you", 0) == [(other, FINE)]


def test_reader_wakes_when_an_outcome_arrives(store: Store) -> None:
    serving(store)
    id = submitted(store)
    taken(store)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(store.tools.calls.answered, "me", 30)
        eventually(lambda: blocked_clients(store) == 1, "the reader blocks")
        store.tools.calls.settle("b", [(id, FINE)])
        assert reading.result(60) == [(id, FINE)]


def blocked_clients(store: Store) -> int:
    return int(store.redis.info("clients")["blocked_clients"])


def test_cancelled_calls_are_dropped_and_reported_to_their_broker(store: Store) -> None:
    serving(store)
    execution, attempt = running(store)
    begun = submitted(store, execution=execution, attempt=attempt)
    direct = submitted(store)
    assert len(taken(store)) == 2
    waiting = submitted(store, execution=execution, attempt=attempt)
    assert store.tools.calls.cancel(execution, attempt + 1) == 0
    assert store.tools.calls.cancel(execution, attempt) == 2
    assert store.tools.calls.wait("b", 1), "the broker is woken"
    found = store.tools.calls.take("b", {SERVER: 10})
    assert found is not None
    assert (found.calls, found.cancelled) == ((), (begun,))
    assert store.tools.calls.settle("b", [(begun, FINE), (waiting, FINE), (direct, FINE)]) == [False, False, True]
    assert store.tools.calls.answered("me", 0) == [(direct, FINE)]
    assert store.tools.calls.cancel(execution, attempt) == 0


def test_single_call_is_dropped_also_after_its_outcome(store: Store) -> None:
    serving(store)
    ids = [submitted(store) for _ in range(3)]
    taken(store, room=2)
    store.tools.calls.settle("b", [(ids[0], FINE)])
    assert store.tools.calls.drop(*ids, "0" * 32) == 2
    assert taken(store) == []
    assert store.tools.calls.answered("me", 0) == []


def test_without_a_broker_calls_fail_at_once(store: Store) -> None:
    id = submitted(store)
    [(found, outcome)] = store.tools.calls.answered("me", 1)
    assert (found, code_of(outcome)) == (id, "tool_unavailable")


def test_calls_beyond_the_bound_of_waiting_calls_fail_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "WAITING_CALLS", 2)
    serving(store)
    ids = [submitted(store) for _ in range(3)]
    [(found, outcome)] = store.tools.calls.answered("me", 1)
    assert (found, code_of(outcome)) == (ids[2], "tool_busy")
    assert [call.id for call, _ in taken(store)] == ids[:2]


def test_call_of_an_undeclared_server_goes_to_the_broker_that_answers_for_them(store: Store) -> None:
    serving(store)
    id, foreign = submitted(store, server="none"), submitted(store, tenant="u")
    assert taken(store) == []
    assert [call.id for call, _ in taken(store, upstream=UNDECLARED)] == [id, foreign]


def test_waiting_calls_of_a_removed_server_become_calls_of_an_unknown_server(store: Store) -> None:
    serving(store)
    id = submitted(store)
    assert store.tools.servers.remove("t", "files")
    assert [call.id for call, _ in taken(store, upstream=UNDECLARED)] == [id]


def test_result_without_room_in_redis_becomes_a_failure(store: Store) -> None:
    serving(store)
    ids = [submitted(store) for _ in range(2)]
    taken(store)
    used = store.redis.info("memory")["used_memory"]
    store.redis.config_set("maxmemory", used + 4 * 2**20)
    try:
        large, small = ToolOutcome(result=" " * 8 * 2**20), FAILED
        assert store.tools.calls.settle("b", [(ids[0], large), (ids[1], small)]) == [True, True]
        with pytest.raises(StoreFull):
            submitted(store, arguments=" " * 8 * 2**20)
        found = dict(store.tools.calls.answered("me", 1))
        assert {id: code_of(outcome) for id, outcome in found.items()} == {
            ids[0]: "tool_unavailable", ids[1]: "tool_failed",
        }  # fmt: skip
    finally:
        store.redis.config_set("maxmemory", 0)


def test_many_brokers_and_readers_handle_each_call_once(store: Store) -> None:
    names, count = [f"s{i}" for i in range(8)], 200
    serving(store, "b0", *names)
    store.tools.brokers.heartbeat("b1", lease_seconds=600)
    owned = {b: store.tools.brokers.heartbeat(b, lease_seconds=600).upstreams for b in ("b0", "b1")}
    owned["b0"], owned["b1"] = owned["b0"] | owned["b1"], owned["b0"] | owned["b1"]  # both ask for everything
    handled: Counter[str] = Counter()

    def work(broker: str) -> None:
        until = time.monotonic() + 60
        while handled.total() < count and time.monotonic() < until:
            store.tools.calls.wait(broker, 0.1)
            found = store.tools.calls.take(broker, dict.fromkeys(owned[broker], 3))
            while found and found.calls:
                ids = [call.id for call, _ in found.calls]
                handled.update(ids)
                assert all(store.tools.calls.settle(broker, [(id, FINE) for id in ids]))
                found = store.tools.calls.take(broker, dict.fromkeys(owned[broker], 3))

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work, broker) for broker in ("b0", "b0", "b1", "b1")]
        ids = list(pool.map(lambda i: submitted(store, server=names[i % 8]), range(count)))
        for worker in workers:
            worker.result()
    assert handled == Counter(ids)
    read: list[str] = []
    while part := store.tools.calls.answered("me", 0):
        read += [id for id, _ in part]
    assert sorted(read) == sorted(ids)


def test_settled_calls_leave_only_short_lived_ids(store: Store) -> None:
    serving(store)
    execution, attempt = running(store)
    before = set(store.redis.keys("mayfly:tools:*"))
    ids = [submitted(store, execution=execution, attempt=attempt, arguments=" " * 10_000) for _ in range(3)]
    taken(store)
    store.tools.calls.settle("b", [(id, FINE) for id in ids])
    store.tools.calls.answered("me", 0)
    store.tools.calls.answered("me", 0)
    left = set(store.redis.keys("mayfly:tools:*")) - before
    assert left <= {keys.tool_call(id).encode() for id in ids}
    assert all(0 < store.redis.ttl(key) < 120 and store.redis.memory_usage(key) < 2000 for key in left)


def test_id_without_a_waiting_call_is_passed_over(store: Store) -> None:
    """Of a call that has expired, and of a call that is on the list twice."""
    serving(store)
    expired, twice, last = (submitted(store) for _ in range(3))
    store.redis.delete(keys.tool_call(expired))
    store.redis.rpush(keys.tool_waiting(str(SERVER)), twice)
    assert [call.id for call, _ in taken(store)] == [twice, last]
    assert taken(store) == []
