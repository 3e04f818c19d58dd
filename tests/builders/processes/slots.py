"""Slots in this process: a handler of their executions in place of a sandbox."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.store import Store
from orchestrator.store.executions.records import Claim
from tests.builders.records import now, result
from tests.harness import eventually
from worker.slots import SlotWorker


class Handler:
    """Handles executions of slots: commits when allowed, or raises."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.begun: list[str] = []
        self.may_end = threading.Event()
        self.failures: list[Exception] = []

    def __call__(self, claim: Claim) -> None:
        self.begun.append(claim.id)
        if self.failures:
            raise self.failures.pop()
        assert self.may_end.wait(60)
        self.store.records.start(claim, now())
        self.store.records.commit(claim, result())


@contextmanager
def working(worker: SlotWorker) -> Iterator[None]:
    """The worker takes executions until the context ends, and then leaves, within a minute."""
    thread = threading.Thread(target=worker.work_until_left)
    thread.start()
    try:
        yield
    finally:  # also if a test fails, whose process would otherwise never end
        worker.leave()
        thread.join(60)
    assert not thread.is_alive()


def wait_for_idle_slots(store: Store, slots: int) -> None:
    """Wait until that number of slots block in Redis."""
    eventually(lambda: sum("b" in c["flags"] for c in store.redis.client_list()) == slots, "idle slots wait")
