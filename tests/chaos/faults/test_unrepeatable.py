"""Executions with ``"retry": false``, and workers killed before and after their start is recorded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.installations.installation import Installation
from tests.chaos.installations.workers import Fate
from tests.chaos.invariants import Accepted, stream_of
from tests.harness import eventually


@pytest.mark.parametrize(
    "before", [["taken"], pytest.param(["taken", "launched", "started"], marks=pytest.mark.complete)]
)
def test_unrepeatable_execution_is_requeued_until_its_start_is_recorded(
    installation: Callable[..., Installation], before: list[str]
) -> None:
    stack = installation(retry_seconds=0, max_attempts=5, lease_seconds=4)  # so that none is lost by itself
    stack.begin(1, (Fate(step) for step in (*before, "running")))
    ids = []
    for _ in range(2):
        ids.append(stack.submit(environment="python", code="x", args=["t", "2", "0"], retry=False).json()["id"])
        eventually(
            lambda: stack.show(ids[-1], wait=10)["state"] not in ("queued", "starting", "running"),
            "the execution ends",
            60,
        )
    reported = [stack.show(id) for id in ids]
    assert [(one["state"], one["reason"]) for one in reported] == [("errored", "worker_lost"), ("succeeded", None)]
    assert [one["attempt"] for one in reported] == [len(before) + 1, 1]
    began = [entry.attempt for entry in stream_of(stack.raw, ids[0]) if entry.data == b"running"]
    assert began == [len(before) + 1]
    accepted = [Accepted(one["id"], "t:0\nt:1\n", reported=one, spoilt=one is reported[0]) for one in reported]
    assert stack.check(accepted) == []
