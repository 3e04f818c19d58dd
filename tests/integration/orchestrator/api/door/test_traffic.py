"""Large bodies and answers on their way: memory stays bounded, places are few, and the slow are cut off."""

from __future__ import annotations

import itertools
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from orchestrator.settings import Settings
from orchestrator.store import Store, open_store
from tests.builders.processes.sockets import (
    MIB,
    answer_of,
    connect,
    connections,
    exchange,
    head,
    resident_bytes,
    unread,
)
from tests.builders.records import loud_execution
from tests.harness import Stack, eventually

UPLOADS, TENANT_UPLOADS, TENANT_ANSWERS = 16, 4, 8
BODY_SECONDS, STALL_SECONDS = 30, 31
OUTPUT_BYTES = 16 * MIB
SENT_BYTES = 12 * MIB  # of a stalled body: within its time also on a slow machine, and thrice what it may take
BLOBS = "/api/v1/blobs"
BODIES = (("PUT", BLOBS, "application/octet-stream"), ("POST", "/api/v1/executions", "application/json"))


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {
        "uploads": UPLOADS,
        "tenant_uploads": TENANT_UPLOADS,
        "tenant_answers": TENANT_ANSWERS,
        "body_seconds": BODY_SECONDS,
        "body_rate": 8 * MIB,
        "stall_seconds": STALL_SECONDS,
        "answer_rate": 8 * MIB,
        "mcp_hosts": ["x"],
    }


@pytest.fixture
def pid(api: Stack) -> int:
    assert api.api is not None
    return api.api.pid


@pytest.fixture(scope="module")
def store(api: Stack) -> Iterator[Store]:
    made = open_store(Settings(redis_url=api.redis.url))
    yield made
    made.redis.close()


@pytest.fixture(scope="module")
def loud(store: Store) -> str:
    """An execution of the admin's tenant with 16 MiB of output."""
    return loud_execution(store, OUTPUT_BYTES)


def key_of(api: Stack, tenant: str) -> str:
    return str(api.new_key("blobs:write", "executions:write", "executions:read", tenant=tenant)["secret"])


def temporary(api: Stack) -> list[Path]:
    return list((api.directory / "state" / "blobs").glob("blobs/*/.upload-*"))


def test_stalled_bodies_take_no_memory_and_few_places(api: Stack, pid: int) -> None:
    """Uploads and submissions at once, from a tenant each."""
    before, stalled = resident_bytes(pid), {}
    with ExitStack() as stack:
        for method, path, media_type in BODIES:
            key = key_of(api, f"stopping-{method.lower()}")
            begun = head(method, path, key, 31 * MIB, Content_Type=media_type) + b" " * SENT_BYTES
            stalled[key] = stack.enter_context(connections(api.port, TENANT_UPLOADS, begun))
            refused = exchange(api.port, begun)
            assert (refused.status, refused.problem["code"]) == (429, "too_many_uploads")
            assert refused.problem["bound"] == TENANT_UPLOADS
            assert int(refused.headers["retry-after"]) > 0
            assert resident_bytes(pid) - before < len(stalled) * TENANT_UPLOADS * 4 * MIB
        upload = head("PUT", BLOBS, key_of(api, "other"), MIB, Connection="close") + b"x" * MIB
        assert exchange(api.port, upload).status == 201, "another tenant's upload is taken meanwhile"
        for connection in itertools.chain(*stalled.values()):
            late = answer_of(connection)
            assert (late.status, late.problem["code"]) == (408, "request_timeout")
            assert f"{SENT_BYTES} bytes" in late.problem["detail"]
    eventually(lambda: not temporary(api), "the stalled uploads' files are removed")
    for key in stalled:
        accepted = exchange(api.port, head("PUT", BLOBS, key, MIB, Connection="close") + b"x" * MIB)
        assert accepted.status == 201, "their places are free again"


def test_uploads_of_all_tenants_are_bounded(api: Stack) -> None:
    """Three tenants may have their full number, and further tenants find as many places as others leave."""
    counts = [TENANT_UPLOADS] * 3 + [2, 1, 1]
    *tenants, last = (key_of(api, f"tenant-{number}") for number in range(len(counts) + 1))
    eventually(lambda: not temporary(api), "no other upload is in flight")
    with ExitStack() as stack:
        most = 0
        for key, count in zip(tenants, counts, strict=True):
            begun = head("PUT", BLOBS, key, 2 * MIB) + b"x" * MIB  # the first bytes are in no file yet
            stack.enter_context(connections(api.port, count, begun))
            most += count
            if most < 3 * TENANT_UPLOADS:
                continue  # those of three tenants may come in any order
            # Another upload that came before the last of these would have its place.
            eventually(lambda most=most: len(temporary(api)) == most, "the uploads are in flight", BODY_SECONDS)  # type: ignore[misc]
        assert most == UPLOADS
        for key in (tenants[-1], last):
            refused = exchange(api.port, head("PUT", BLOBS, key, MIB, Connection="close") + b"x" * MIB)
            assert (refused.status, refused.problem["code"]) == (503, "uploads_full")


def test_slow_body_is_refused(api: Stack) -> None:
    """An upload, and at the same time a message for agents."""
    key = str(api.new_key("blobs:write", "mcp", tenant="dripping")["secret"])
    began = time.monotonic()
    with connect(api.port) as upload, connect(api.port) as message:
        upload.sendall(head("PUT", BLOBS, key, 1000))
        message.sendall(head("POST", "/mcp", key, 1000))
        dripping = [upload, message]
        while dripping:
            answered = select.select(dripping, [], [], 0.1)[0]
            for connection in answered:
                late = answer_of(connection)
                assert (late.status, late.problem["code"]) == (408, "request_timeout")
                assert time.monotonic() - began > BODY_SECONDS / 2
                dripping.remove(connection)
            for connection in dripping:
                connection.sendall(b"x")


def test_fast_body_is_accepted(api: Stack) -> None:
    key = key_of(api, "steady")
    with connect(api.port) as connection:
        connection.sendall(head("PUT", BLOBS, key, 1000, Connection="close"))
        for _ in range(10):
            assert not select.select([connection], [], [], 0.1)[0]
            connection.sendall(b"x" * 100)
        assert answer_of(connection).status == 201


def rest_of(connection: socket.socket) -> int:
    """How many bytes come until the connection ends."""
    count = 0
    try:
        while more := connection.recv(MIB):
            count += len(more)
    except ConnectionResetError:
        pass
    return count


def test_slow_readers_of_output_take_no_memory_and_are_cut_off(api: Stack, pid: int, loud: str) -> None:
    path = f"/api/v1/executions/{loud}/stdout"
    whole = exchange(api.port, head("GET", path, api.key, 0, Connection="close"))
    assert whole.body == b"x" * OUTPUT_BYTES, "who reads gets all of it"
    before = resident_bytes(pid)
    with ExitStack() as stack:
        slow = unread(api.port, path, api.key, TENANT_ANSWERS, stack)
        refused = exchange(api.port, head("GET", path, api.key, 0, Connection="close"))
        assert (refused.status, refused.problem["code"]) == (429, "too_many_answers")
        bound = OUTPUT_BYTES * TENANT_ANSWERS / 2  # two at a time are in memory until they lie on disk
        eventually(lambda: resident_bytes(pid) - before < bound, "unread output takes no memory")
        assert open_connections(api) >= TENANT_ANSWERS, "while all are still there"
        dripping = slow[:2]
        for connection in slow[2:4]:
            connection.sendall(b"\0")  # no request: the connection is refused, and the answer's rest still waits
        for connection in slow[4:6]:
            connection.shutdown(socket.SHUT_WR)

        def are_cut_off() -> bool:
            for connection in dripping:
                with suppress(ConnectionResetError):
                    connection.recv(1024)
            return open_connections(api) == 1

        eventually(are_cut_off, "all slow readers are cut off", 60)
        assert api.client.get(path).status_code == 200, "they count no more"
        for connection in slow:
            assert rest_of(connection) < OUTPUT_BYTES


def test_slow_readers_of_a_stream_take_no_memory(api: Stack, pid: int, loud: str) -> None:
    path, count = f"/api/v1/executions/{loud}/stream", 16
    whole = api.client.get(path).content
    assert whole.count(b"x" * 65536) == OUTPUT_BYTES / 65536, "who reads gets all of it"
    before = resident_bytes(pid)
    with ExitStack() as stack:
        slow = unread(api.port, path, api.key, count, stack)
        assert resident_bytes(pid) - before < count * 2 * MIB
        eventually(lambda: open_connections(api) == 1, "all slow readers are cut off", 60)
        for connection in slow:
            assert rest_of(connection) < len(whole)


def open_connections(api: Stack) -> float:
    text = api.client.get("/metrics").text
    (line,) = [line for line in text.splitlines() if line.startswith("mayfly_http_connections ")]
    return float(line.split()[1])
