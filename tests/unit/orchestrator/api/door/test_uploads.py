"""Large bodies wait on disk for one of few places in memory, and are parsed one at a time."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter
from fastapi import Request

from orchestrator.api.door.uploads import FEW_BYTES, PLACES, TENANT_PLACES, Places, Traffic
from orchestrator.settings import Settings


class Upload:
    """One body, kept in memory until it may be released."""

    def __init__(self, traffic: Traffic, tenant: str, size: int) -> None:
        self._traffic, self._tenant, self._body = traffic, tenant, b"x" * size
        self.in_memory, self._released = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def release(self) -> None:
        """Let go of the body, and wait for the request's end."""
        self._released.set()
        await self._task

    async def _run(self) -> None:
        headers = [(b"content-length", str(len(self._body)).encode())]
        request = Request({"type": "http", "headers": headers}, self._receive)
        async with self._traffic.body(request, self._tenant) as body:
            assert body == self._body
            self.in_memory.set()
            await self._released.wait()

    async def _receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": self._body, "more_body": False}


async def _share_places(traffic: Traffic) -> None:
    async def taken(tenant: str, size: int = FEW_BYTES + 1) -> Upload:
        upload = Upload(traffic, tenant, size)
        await asyncio.wait_for(upload.in_memory.wait(), 60)
        return upload

    async def waiting(tenant: str, limiter: CapacityLimiter) -> Upload:
        """A large body that has arrived whole and waits, while a later, smaller one comes into memory."""
        upload = Upload(traffic, tenant, FEW_BYTES + 1)
        while not (limiter.statistics().tasks_waiting or upload.in_memory.is_set()):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
        await (await taken("e", FEW_BYTES)).release()
        assert not upload.in_memory.is_set()
        return upload

    first = [await taken("a") for _ in range(TENANT_PLACES)]
    third = await waiting("a", traffic.places._tenants["a"])
    others = [await taken("b") for _ in range(PLACES - TENANT_PLACES)]
    fifth = await waiting("c", traffic.places._all)
    await first[0].release()
    await asyncio.wait_for(fifth.in_memory.wait(), 60)
    assert not third.in_memory.is_set(), "the place goes to the one that came first"
    await others[0].release()
    await asyncio.wait_for(third.in_memory.wait(), 60)
    for upload in (*first[1:], *others[1:], third, fifth):
        await upload.release()


def test_large_bodies_wait_on_disk_for_few_places(tmp_path: Path) -> None:
    asyncio.run(_share_places(Traffic(Settings(blob_dir=tmp_path))))
    assert list(tmp_path.iterdir()) == []


async def _parse_two(places: Places) -> None:
    begun, release, other = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        release.wait()

    parsing = asyncio.create_task(places.alone(first))
    await asyncio.to_thread(begun.wait)
    second = asyncio.create_task(places.alone(other.set))
    try:
        for _ in range(3):
            await places.run("t", lambda: None)  # threads for other work are there
        assert not other.is_set()
    finally:
        release.set()
    await parsing
    await second
    assert other.is_set()


def test_large_bodies_are_parsed_one_at_a_time() -> None:
    asyncio.run(_parse_two(Places()))
