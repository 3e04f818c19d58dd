"""A handler of slots' executions in place of a sandbox."""

from __future__ import annotations

import threading

from orchestrator.store import Store
from orchestrator.store.executions.records import Claim
from tests.builders.records import now, result


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
        assert self.may_end.wait(20)
        self.store.records.start(claim, now())
        self.store.records.commit(claim, result())
