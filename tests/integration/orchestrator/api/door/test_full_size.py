"""The bounds as delivered against forty uploads, sixty readers and a hundred streams at once that stop."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from orchestrator.settings import Settings
from orchestrator.store import open_store
from tests.builders.processes.sockets import MIB, connections, head, resident_bytes, unread
from tests.builders.records import loud_execution
from tests.harness import Stack, eventually

FREE_BYTES = 96 * MIB  # of memory, whatever their number


@pytest.fixture
def pid(api: Stack) -> int:
    assert api.api is not None
    return api.api.pid


@pytest.mark.complete
def test_forty_uploads_stalled_at_31_megabytes_leave_room(api: Stack, pid: int) -> None:
    begun, before = head("PUT", "/api/v1/blobs", api.key, 32 * MIB) + b"x" * (31 * MIB), resident_bytes(pid)
    with connections(api.port, 40, begun):
        assert api.client.get("/livez").status_code == 200
        assert resident_bytes(pid) - before < FREE_BYTES


@pytest.mark.complete
@pytest.mark.parametrize(("path", "count"), [("stdout", 30), ("stream", 100)])
def test_slow_readers_of_16_megabytes(api: Stack, pid: int, path: str, count: int) -> None:
    """One tenant may read 32 exact outputs at a time; further requests are refused (``test_traffic``)."""
    store = open_store(Settings(redis_url=api.redis.url))
    id = loud_execution(store, 16 * MIB)
    store.redis.close()
    address, before = f"/api/v1/executions/{id}/{path}", resident_bytes(pid)
    with ExitStack() as stack:
        unread(api.port, address, api.key, count, stack)
        assert api.client.get("/livez").status_code == 200
        grown = resident_bytes(pid) - before
        assert grown < FREE_BYTES + (count * MIB if path == "stream" else 0)
    eventually(
        lambda: api.client.get(f"/api/v1/executions/{id}/stdout").status_code == 200,
        "the slow readers' places are free",
    )
