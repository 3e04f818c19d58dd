"""The end of an execution whose start is not written yet: one step writes the start, the output and the end."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import queue
from orchestrator.errors import StaleAttempt, StoreUnavailable
from orchestrator.store import Store, keys
from orchestrator.store.steps import Step
from tests.builders.records import claimed, result, submit
from worker.attempt.output import OutputSink


class Steps:
    """Counts the steps of a store, and loses the answers to the first ``lost`` of them."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch, lost: int = 0) -> None:
        self.taken: list[Step] = []
        self._lost, self._take = lost, store.records._steps.take
        monkeypatch.setattr(store.records._steps, "take", self)

    def __call__(self, step: Step) -> bool:
        self.taken.append(step)
        done = self._take(step)
        if len(self.taken) <= self._lost:
            raise StoreUnavailable()
        return done


def sink_of(store: Store, id: str) -> OutputSink:
    """The output of a program that has started and printed a line."""
    sink = OutputSink(store, claimed(store, id), 1000)
    sink.begin()
    sink.write("stdout", b"1\n")
    return sink


def stream(store: Store, id: str) -> list[tuple[str, bytes]]:
    return [(entry.type, entry.data) for entry in store.output.read(id)]


WHOLE = [
    ("state", b"queued"), ("state", b"starting"), ("state", b"running"), ("stdout", b"1\n"), ("state", b"succeeded"),
    ("done", b"succeeded"),
]  # fmt: skip


def test_start_output_and_end_are_one_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    id = submit(store)
    sink, steps = sink_of(store, id), Steps(store, monkeypatch)
    sink.commit(result())
    execution = store.records.get(id, None)
    assert len(steps.taken) == 1
    assert stream(store, id) == WHOLE
    assert execution.started_at is not None and execution.finished_at is not None
    assert execution.created_at <= execution.started_at <= execution.finished_at
    assert store.records.counts() == {"queued": 0, "active": 0}


def test_step_whose_answer_was_lost_counts_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    id = submit(store)
    sink, steps = sink_of(store, id), Steps(store, monkeypatch, lost=2)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            sink.commit(result())
    sink.commit(result())
    assert len(steps.taken) == 3
    assert stream(store, id) == WHOLE
    assert store.redis.zcard(keys.EXPIRY) == 1


@pytest.mark.parametrize("claimed_again", [False, True], ids=["queued again", "claimed again"])
def test_step_of_an_attempt_that_lost_the_execution_writes_nothing(store: Store, claimed_again: bool) -> None:
    id = submit(store)
    sink = sink_of(store, id)
    assert store.records.requeue(id, 1, unbegun=True)
    if claimed_again:
        assert queue.put_back(store, id) == 1
        assert claimed(store, id, "another").attempt == 2
    before: Any = store.redis.hgetall(keys.execution(id)), stream(store, id)
    with pytest.raises(StaleAttempt):
        sink.commit(result())
    assert (store.redis.hgetall(keys.execution(id)), stream(store, id)) == before


def test_start_that_is_written_is_not_written_again(store: Store) -> None:
    id = submit(store)
    claim = claimed(store, id)
    store.records.start(claim, store.now())
    started_at = store.records.get(id, None).started_at
    store.records.commit(claim, result(), [("stdout", b"1\n", 0)], started_at=store.now() + 60)
    assert store.records.get(id, None).started_at == started_at
    assert stream(store, id) == WHOLE
