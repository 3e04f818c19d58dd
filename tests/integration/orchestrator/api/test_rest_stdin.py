"""Standard input over REST: inside a submission, in a blob, and in streamed chunks."""

from __future__ import annotations

import base64
from contextlib import closing
from typing import Any

import httpx2
import pytest

from orchestrator.settings import Settings
from orchestrator.store import keys, open_store
from orchestrator.store.content.stdin import UNREAD_BYTES
from tests.harness import Stack

OK = {"environment": "python", "code": "1"}
STREAM = {**OK, "stdin": {"stream": True}}


def submit(api: Stack, body: dict[str, Any]) -> httpx2.Response:
    return api.client.post("/api/v1/executions", json=body)


def streaming(api: Stack, **more: Any) -> str:
    answer = submit(api, {**STREAM, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def send(api: Stack, id: str, data: bytes = b"", headers: Any = None, **params: Any) -> httpx2.Response:
    return api.client.post(f"/api/v1/executions/{id}/stdin", content=data, params=params, headers=headers)


def kept(api: Stack, id: str) -> bytes | None:
    with api.redis.client() as client:
        found: Any = client.get(keys.stdin(id))
    return None if found is None else bytes(found)


def refused(answer: httpx2.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return str(answer.json()["detail"])


WRONG = [
    ({"content": "a", "blob": "sha256:" + "0" * 64}, "conflicting_fields", "stdin"),
    ({"content": "a", "stream": True}, "conflicting_fields", "stdin"),
    ({}, "conflicting_fields", "stdin"),
    ({"stream": False}, "conflicting_fields", "stdin"),
    ({"content": "!!", "encoding": "base64"}, "invalid_base64", "stdin.content"),
    ({"content": "YWJ", "encoding": "hex"}, "validation_failed", "stdin.encoding"),
    ({"blob": "sha256:" + "0" * 64}, "unknown_blob", "stdin.blob"),
    ({"stream": "yes"}, "validation_failed", "stdin.stream"),
    (7, "validation_failed", "stdin"),
    (None, "validation_failed", "stdin"),
]


@pytest.mark.parametrize(("stdin", "code", "field"), WRONG)
def test_invalid_stdin_is_refused_by_field(api: Stack, stdin: Any, code: str, field: str) -> None:
    answer = submit(api, {**OK, "stdin": stdin})
    refused(answer, 422, code)
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    "stdin",
    ["text", {"content": "text"}, {"content": base64.b64encode(bytes(range(256))).decode(), "encoding": "base64"},
     {"content": base64.encodebytes(bytes(range(256))).decode().rstrip("=\n"), "encoding": "base64"}],
    ids=["text", "object", "base64", "lines without padding"],
)  # fmt: skip
def test_every_form_is_accepted(api: Stack, stdin: Any) -> None:
    assert submit(api, {**OK, "stdin": stdin}).status_code == 202


def test_large_stdin_goes_to_a_blob_and_counts_as_input(api: Stack) -> None:
    submitted = submit(api, {**OK, "stdin": "x" * 2**20}).json()["id"]
    with api.redis.client() as client:
        record: Any = client.hgetall(keys.execution(submitted))
    assert sum(map(len, record.values())) < 20_000
    blob = api.client.put("/api/v1/blobs", content=b"x" * (20 * 2**20)).json()["blob"]
    files = [{"path": "a", "blob": blob}]
    refused(submit(api, {**OK, "files": files, "stdin": {"blob": blob}}), 422, "inputs_too_large")


def test_chunks_are_kept_in_order_and_ended_once(api: Stack) -> None:
    id = streaming(api)
    first = send(api, id, b"\x00\xff")
    assert (first.status_code, first.json()) == (202, {"bytes": 2, "ended": False})
    assert send(api, id, b"abc", offset=2).json() == {"bytes": 5, "ended": False}
    assert send(api, id, b"abc", offset=2).json() == {"bytes": 5, "ended": False}  # sent again
    assert send(api, id, b"bcd", offset=3, end=True).json() == {"bytes": 6, "ended": True}  # half of it is new
    assert send(api, id, b"bcd", offset=3, end=True).json() == {"bytes": 6, "ended": True}
    assert send(api, id).json() == {"bytes": 6, "ended": True}
    assert kept(api, id) == b"\x00\xffabcd"
    assert "byte 6" in refused(send(api, id, b"more"), 409, "stdin_ended")
    assert kept(api, id) == b"\x00\xffabcd"


def test_a_gap_is_refused(api: Stack) -> None:
    id = streaming(api)
    assert "3 have arrived" in refused((send(api, id, b"abc"), send(api, id, b"x", offset=4))[1], 409, "stdin_gap")
    assert kept(api, id) == b"abc"


def test_stdin_is_refused_for_an_execution_without_a_stream(api: Stack) -> None:
    id = submit(api, OK).json()["id"]
    assert '{"stream": true}' in refused(send(api, id, b"x"), 409, "stdin_not_streamed")


def test_unread_input_is_bounded(api: Stack) -> None:
    id = streaming(api)
    assert str(UNREAD_BYTES) in refused(send(api, id, b"x" * (UNREAD_BYTES + 1)), 413, "payload_too_large")
    assert send(api, id, b"x" * UNREAD_BYTES).status_code == 202
    full = send(api, id, b"y", offset=UNREAD_BYTES)
    assert str(UNREAD_BYTES) in refused(full, 429, "stdin_full")
    assert full.json()["bound"] == UNREAD_BYTES
    assert full.headers["Retry-After"] == "1"
    assert len(kept(api, id) or b"") == UNREAD_BYTES


def test_files_and_a_streamed_input_are_bounded_together(api: Stack) -> None:
    blob = api.client.put("/api/v1/blobs", content=b"x" * (32 * 2**20 - 11)).json()["blob"]
    id = streaming(api, files=[{"path": "a", "blob": blob}])
    assert send(api, id, b"0123456789").status_code == 202
    assert "at most 10 bytes" in refused(send(api, id, b"x"), 413, "payload_too_large")


def test_strangers_and_readers_are_refused(api: Stack) -> None:
    id = streaming(api)
    writer = api.headers_of("strangers", "executions:write", "executions:read")
    refused(send(api, id, b"x", writer), 404, "not_found")
    refused(send(api, id, b"x", api.headers_of("default", "executions:read")), 403, "forbidden")
    refused(send(api, "0" * 32, b"x"), 404, "not_found")
    assert kept(api, id) is None


def test_the_bytes_go_when_the_execution_ends(api: Stack) -> None:
    id = streaming(api)
    send(api, id, b"secret")
    assert kept(api, id) == b"secret"
    assert api.client.post(f"/api/v1/executions/{id}/cancel").status_code == 202
    assert kept(api, id) is None
    assert "already ended" in refused(send(api, id, b"x"), 409, "already_finished")


def test_an_attempt_reads_from_the_start_and_makes_room(api: Stack) -> None:
    id = streaming(api)
    send(api, id, b"a" * UNREAD_BYTES)
    store = open_store(Settings(redis_url=api.redis.url))
    record = keys.execution(id)
    with closing(store.redis), api.redis.client() as client:
        client.hset(record, mapping={"state": "running", "attempt": 1})
        piece = store.stdin.read(id, 1, 0, 0, 10)
        assert piece == (b"a" * 10, False)
        refused(send(api, id, b"b"), 429, "stdin_full")
        assert store.stdin.read(id, 1, UNREAD_BYTES, 1, 10) == (b"", False)
        assert send(api, id, b"b", end=True).status_code == 202
        assert store.stdin.read(id, 1, UNREAD_BYTES, 1, 10) == (b"b", True)
        client.hset(record, "attempt", "2")
        assert store.stdin.read(id, 1, 0, 0, 10) is None  # it lost its right
        assert store.stdin.read(id, 2, 0, 0, 10) == (b"a" * 10, False)
        client.hset(record, mapping={"state": "queued", "attempt": 2})
    api.client.post(f"/api/v1/executions/{id}/cancel")
