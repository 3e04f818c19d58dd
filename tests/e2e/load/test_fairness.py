"""One tenant with a long queue beside another, on real containers. Ratios of latencies are ``make bench``'s."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.harness import LONG_LEASE_SECONDS, Stack

JOBS = 10_000
BATCH = 100
PROGRAM_SECONDS = 2
SLOTS = 2
SCOPES = ("executions:read", "executions:write")


def at(execution: dict[str, Any], name: str) -> datetime:
    return datetime.fromisoformat(execution[name])


def listed(stack: Stack, headers: dict[str, str], state: str) -> list[dict[str, Any]]:
    """A tenant's executions in a state, no more than some hundreds."""
    found, cursor = [], None
    while True:
        params: dict[str, Any] = {"state": state, "limit": 200, **({"cursor": cursor} if cursor else {})}
        page = stack.client.get("/api/v1/executions", params=params, headers=headers).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def test_long_queue_and_long_programs_delay_no_other_tenant(own_stack: Callable[..., Stack]) -> None:
    pool = {"pool_sizes": {"bash": 2}, "lease_seconds": LONG_LEASE_SECONDS}
    stack = own_stack(slots=SLOTS, queue_limit=2 * JOBS, rate_limit="off", **pool).start()
    flood, innocent = stack.headers_of("flood", *SCOPES), stack.headers_of("innocent", *SCOPES)

    def ended() -> dict[str, Any]:
        answer = stack.submit(60, innocent, environment="bash", code="echo 1", limits={"wall_seconds": 60})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    body: dict[str, Any] = {"environment": "bash", "code": f"sleep {PROGRAM_SECONDS}"}
    for _ in range(JOBS // BATCH):
        accepted = stack.client.post("/api/v1/executions/batch", json={"executions": [body] * BATCH}, headers=flood)
        assert accepted.status_code == 207, accepted.text
    # The control: what an innocent in one queue for all would be.
    own = stack.submit(headers=flood, **body).json()["id"]
    beside = [ended() for _ in range(10)]
    begun = [at(one, "started_at") for state in ("running", "succeeded") for one in listed(stack, flood, state)]
    assert len(begun) >= SLOTS, "the control: the other tenant's executions begin meanwhile"
    for one in beside:
        before = [start for start in begun if at(one, "created_at") < start < at(one, "started_at")]
        assert len(before) <= SLOTS, "no more than were about to begin are begun before it"
    assert stack.client.get(f"/api/v1/executions/{own}", headers=flood).json()["state"] == "queued"
    assert stack.client.get("/api/v1/queues").json()["queued"] > JOBS / 2
