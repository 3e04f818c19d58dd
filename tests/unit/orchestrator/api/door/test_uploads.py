"""Large bodies wait on disk for one of few places in memory, and are parsed one at a time."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter
from fastapi import Request

from orchestrator.api.door.uploads import FEW_BYTES, MOST_CHUNKS, PLACES, TENANT_PLACES, Places, Traffic, pieces
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


async def _parse_three(places: Places) -> list[str]:
    """Two bodies of one tenant and then one of another, in the order in which they are parsed."""
    order: list[str] = []
    begun, release = threading.Event(), threading.Event()

    def first() -> None:
        order.append("a1")
        begun.set()
        assert release.wait(60)

    parsing = [asyncio.create_task(places.alone("a", first))]
    await asyncio.to_thread(begun.wait)
    parsing += [asyncio.create_task(places.alone(name[0], partial(order.append, name))) for name in ("a2", "b1")]
    try:
        for _ in range(3):
            await places.run("t", lambda: None)  # threads for other work are there
        assert order == ["a1"]
    finally:
        release.set()
    await asyncio.gather(*parsing)
    return order


def test_bodies_are_parsed_one_at_a_time_and_tenants_take_turns() -> None:
    assert asyncio.run(_parse_three(Places())) == ["a1", "b1", "a2"]


async def _run_more_than_places(places: Places) -> int:
    """The number of a tenant's calls that have begun while one more of them waits, or begins."""
    begun, release = [], threading.Event()

    def call() -> None:
        begun.append(1)
        assert release.wait(60)

    calls = [asyncio.create_task(places.run("a", call)) for _ in range(TENANT_PLACES + 1)]
    limiter = places._tenants["a"]
    while not (limiter.statistics().tasks_waiting or len(begun) > TENANT_PLACES):  # noqa: ASYNC110 - no event
        await asyncio.sleep(0)
    count = len(begun)
    release.set()
    await asyncio.gather(*calls)
    return count


async def _kept_for(places: Places, tenant: str) -> tuple[int, int]:
    """The numbers of tenants with a limiter: while a call of one runs, and after it."""
    begun, release = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        assert release.wait(60)

    calls = [asyncio.create_task(places.run(tenant, call)), asyncio.create_task(places.alone(tenant, call))]
    await asyncio.to_thread(begun.wait)
    while not len(places._turns):  # noqa: ASYNC110 - no event
        await asyncio.sleep(0)
    during = len(places._tenants) + len(places._turns)
    release.set()
    await asyncio.gather(*calls)
    del calls
    return during, len(places._tenants) + len(places._turns)


def test_tenants_without_calls_take_no_memory() -> None:
    places = Places()
    assert [asyncio.run(_kept_for(places, tenant)) for tenant in "abc"] == [(2, 0)] * 3


def test_readings_of_a_tenant_have_few_places() -> None:
    assert asyncio.run(_run_more_than_places(Places())) <= TENANT_PLACES


def test_many_small_chunks_are_joined() -> None:
    left = [b"%05d" % number for number in range(10 * MOST_CHUNKS)]
    sent = b"".join(left)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def read() -> list[list[bytes]]:
        return [chunks async for chunks in pieces(Request({"type": "http", "headers": []}, receive), FEW_BYTES)]

    (chunks,) = asyncio.run(read())
    assert b"".join(chunks) == sent
    assert len(chunks) < MOST_CHUNKS
