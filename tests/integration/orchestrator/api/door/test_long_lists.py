"""Lists of many executions with a filter: each request does bounded work, and forty leave threads for a neighbour."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import httpx2
import pytest

from orchestrator import queue
from orchestrator.api.door.uploads import TENANT_PLACES
from orchestrator.api.middleware import Edge
from orchestrator.queries import results
from orchestrator.queries.listing import SCAN_IDS, SCAN_PAGES, Page, page_of
from orchestrator.settings import Settings
from orchestrator.store import Store, open_store
from orchestrator.store.executions.records import QueueBounds
from orchestrator.store.executions.sealing import seal
from tests.builders.records import specification
from tests.harness import Stack, bearer

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


class Halt:
    """Halts the lists of some tenants, each in its thread, until the event ``over``."""

    def __init__(self, tenants: set[str]) -> None:
        self._tenants = tenants
        self.begun, self.over = threading.Semaphore(0), threading.Event()

    def page_of(self, store: Store, tenant: str, *given: Any) -> Page:
        if tenant in self._tenants:
            self.begun.release()
            if not self.over.wait(60):
                self.over.set()  # nor do the others wait
                raise AssertionError("the test did not end the halt")
        return page_of(store, tenant, *given)


async def lists(app: Edge, admin: dict[str, str], halt: Halt) -> None:
    """Forty lists of a tenant at once, that do not end, and meanwhile one of a neighbour."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x", timeout=60) as client:

        async def headers_of(tenant: str) -> dict[str, str]:
            body = {"name": "n", "tenant": tenant, "scopes": ["executions:read"]}
            return bearer((await client.post("/api/v1/api-keys", json=body, headers=admin)).json()["secret"])

        crowded, neighbour = await headers_of("crowded"), await headers_of("neighbour")
        crowd = [asyncio.create_task(client.get(LIST, headers=crowded)) for _ in range(CLIENTS)]
        try:
            for _ in range(TENANT_PLACES):
                assert await asyncio.to_thread(halt.begun.acquire, timeout=60)
            answer = await asyncio.wait_for(client.get(LIST, headers=neighbour), 60)
            assert answer.status_code == 200
            assert not halt.begun.acquire(blocking=False), "the other lists wait for the places of their tenant"
        finally:
            halt.over.set()
        assert {answer.status_code for answer in await asyncio.gather(*crowd)} == {200}


def test_forty_long_lists_leave_threads_for_a_neighbour(
    own_api: tuple[Edge, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    halt = Halt({"crowded"})
    monkeypatch.setattr(results, "page_of", halt.page_of)
    asyncio.run(lists(*own_api, halt))
