"""Lists of many executions with a filter: each request does bounded work, and a neighbour does not feel forty."""

from __future__ import annotations

import os
import statistics
import threading
import time
from typing import Any

import pytest

from orchestrator import queue
from orchestrator.queries.listing import SCAN_IDS, SCAN_PAGES
from orchestrator.settings import Settings
from orchestrator.store import open_store
from orchestrator.store.executions.records import QueueBounds
from orchestrator.store.executions.sealing import seal
from tests.builders.records import specification
from tests.harness import Stack

LIST = "/api/v1/executions"
TENANT, COUNT = "crowded", 3000
CLIENTS = 40


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"janitor_seconds": 3600}  # it reads records of what is queued, too, which `looked_at` would count


@pytest.fixture(scope="module")
def crowded(api: Stack) -> dict[str, str]:
    """Headers of a tenant with many executions, of which the oldest has a label."""
    store = open_store(Settings(redis_url=api.redis.url))
    for number in range(COUNT):
        made = specification(TENANT).model_copy(update={"labels": {"team": "first"} if number == 0 else {}})
        sealed, signature = seal(made, os.urandom(32))
        store.records.submit(made, sealed, signature, queue.envelope(made), QueueBounds(COUNT, COUNT), None)
    store.redis.close()
    return api.headers_of(TENANT, "executions:read")


def looked_at(api: Stack) -> int:
    """Records of executions that were read so far."""
    with api.redis.client() as client:
        return int(client.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"])


def page(api: Stack, headers: dict[str, str], **query: Any) -> dict[str, Any]:
    answer = api.client.get(LIST, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_filter_without_matches_does_bounded_work_and_returns_cursor(api: Stack, crowded: dict[str, str]) -> None:
    before = looked_at(api)
    first = page(api, crowded, label="team:none")
    assert (first["items"], first["next_cursor"] is None) == ([], False)
    assert looked_at(api) - before <= SCAN_PAGES * SCAN_IDS + 10
    pages, cursor = 1, first["next_cursor"]
    while cursor is not None:
        one = page(api, crowded, label="team:none", cursor=cursor)
        pages, cursor = pages + 1, one["next_cursor"]
        assert one["items"] == []
    assert COUNT / (SCAN_PAGES * SCAN_IDS) <= pages <= COUNT / (SCAN_PAGES * SCAN_IDS) + 1


def test_matches_are_found_at_any_depth(api: Stack, crowded: dict[str, str]) -> None:
    found: list[dict[str, Any]] = []
    cursor = None
    while not found or cursor is not None:
        one = page(api, crowded, label="team:first", **({"cursor": cursor} if cursor else {}))
        found += one["items"]
        cursor = one["next_cursor"]
    assert [item["labels"] for item in found] == [{"team": "first"}]


def p95(api: Stack, headers: dict[str, str], count: int = 60) -> float:
    """The 95th percentile of a hundred look-ups of another tenant."""
    taken = []
    for _ in range(count):
        began = time.monotonic()
        assert api.client.get(LIST, params={"limit": 1}, headers=headers).status_code == 200
        taken.append(time.monotonic() - began)
    return statistics.quantiles(taken, n=20)[-1]


def test_forty_clients_with_a_rare_filter_leave_a_neighbour_alone(api: Stack, crowded: dict[str, str]) -> None:
    neighbour = api.headers_of("neighbour", "executions:read")
    quiet = min(p95(api, neighbour), p95(api, neighbour))
    ended, answered = threading.Event(), []

    def ask() -> None:
        while not ended.is_set():
            answered.append(page(api, crowded, label="team:none")["items"])

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        loud = p95(api, neighbour)
    finally:
        ended.set()
        for client in clients:
            client.join()
    assert answered

    assert loud < 20 * quiet + 0.05, (quiet, loud)
