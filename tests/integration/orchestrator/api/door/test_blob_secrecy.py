"""Neither status, body, headers nor work reveal whether another tenant has a blob.

A difference in time would come from a difference in work. Times vary from run to run, but the work does not: so the
calls of a request are compared, with other tenants' blobs and without.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from orchestrator.api.middleware import Edge
from orchestrator.store import Store
from tests.builders.counted import counted_work
from tests.harness import Stack

BLOBS, EXECUTIONS = "/api/v1/blobs", "/api/v1/executions"
SCOPES = ("blobs:write", "executions:write", "executions:read")
SIZE = 256 * 1024
UNTELLING = {"x-request-id", "date"}
ROUNDS = 5  # a round may differ by chance, when something is renewed that is kept for a while


@pytest.fixture(scope="module")
def victim(api: Stack) -> dict[str, str]:
    return api.headers_of("victim", *SCOPES)


@pytest.fixture(scope="module")
def curious(api: Stack) -> dict[str, str]:
    return api.headers_of("curious", *SCOPES)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def upload(api: Stack, headers: dict[str, str], data: bytes) -> httpx2.Response:
    return api.client.put(BLOBS, content=data, headers=headers)


def refer(api: Stack, headers: dict[str, str], blob: str) -> httpx2.Response:
    return api.client.post(EXECUTIONS, json=submission(blob), headers=headers)


def submission(blob: str) -> dict[str, Any]:
    return {"environment": "python", "entrypoint": "m.py", "files": [{"path": "m.py", "blob": blob}]}


def seen(answer: httpx2.Response, blob: str) -> tuple[int, dict[str, str], str]:
    """All that a client sees of an answer but what differs by chance."""
    text = answer.text.replace(blob, "BLOB").replace(answer.headers["x-request-id"], "ID")
    return answer.status_code, {k: v for k, v in answer.headers.items() if k.lower() not in UNTELLING}, text


def test_foreign_blob_reference_is_answered_as_a_missing_blob(
    api: Stack, victim: dict[str, str], curious: dict[str, str]
) -> None:
    data = secrets.token_bytes(SIZE)
    assert upload(api, victim, data).status_code == 201
    nothing = digest(secrets.token_bytes(8))
    there, absent = refer(api, curious, digest(data)), refer(api, curious, nothing)
    assert seen(there, digest(data)) == seen(absent, nothing)
    assert (there.status_code, there.json()["code"]) == (422, "unknown_blob")
    assert refer(api, victim, digest(data)).status_code == 202, "its owner may use it"


def test_upload_of_a_foreign_blob_is_answered_as_a_new_upload(
    api: Stack, victim: dict[str, str], curious: dict[str, str]
) -> None:
    data, fresh = secrets.token_bytes(SIZE), secrets.token_bytes(SIZE)
    assert upload(api, victim, data).status_code == 201
    there, absent = upload(api, curious, data), upload(api, curious, fresh)
    assert seen(there, digest(data)) == seen(absent, digest(fresh))


class Recorder:
    """Requests of an administrator to an application in this process, each with its work."""

    def __init__(self, app: Edge, headers: dict[str, str]) -> None:
        self._app, self._headers = app, headers

    def __call__(self, expected: str, method: str, path: str, **content: Any) -> Counter[str]:
        """The work of a request whose status and code of a mistake are expected."""

        async def send() -> httpx2.Response:
            client = httpx2.AsyncClient(transport=httpx2.ASGITransport(self._app), base_url="http://x")
            async with client:
                return await client.request(method, path, headers=self._headers, **content)

        with counted_work() as work:
            answer = asyncio.run(send())
        assert f"{answer.status_code} {answer.json().get('code', '')}".strip() == expected, answer.text
        return work

    def upload(self, data: bytes) -> Counter[str]:
        async def pieces() -> AsyncIterator[bytes]:
            for begin in range(0, len(data), len(data) // 2):
                yield data[begin : begin + len(data) // 2]

        return self("201", "PUT", BLOBS, content=pieces())

    def refer(self, data: bytes, expected: str = "422 unknown_blob") -> Counter[str]:
        return self(expected, "POST", EXECUTIONS, json=submission(digest(data)))


@pytest.fixture
def record(own_api: tuple[Edge, dict[str, str]]) -> Recorder:
    return Recorder(*own_api)


def differences(of: Callable[[bytes], Counter[str]], known: Callable[[bytes], object]) -> list[Counter[str]]:
    """The differences, in each round, between the work for new contents and for contents that others have."""
    found = []
    of(secrets.token_bytes(SIZE))  # which also makes what the process keeps
    for _ in range(ROUNDS):
        data = secrets.token_bytes(SIZE)
        known(data)
        there, absent = of(data), of(secrets.token_bytes(SIZE))
        found.append((there - absent) + (absent - there))
    return found


@pytest.mark.parametrize("request_of", [Recorder.upload, Recorder.refer])
def test_foreign_and_missing_blobs_make_the_same_work(
    store: Store, record: Recorder, request_of: Callable[[Recorder, bytes], Counter[str]]
) -> None:
    found = differences(lambda data: request_of(record, data), lambda data: store.own_blobs.put("victim", [data]))
    assert Counter() in found, found


def test_own_blob_makes_other_work(store: Store, record: Recorder) -> None:
    """The control: a tenant's own blob is not written again, and a reference to it is no mistake."""
    found = differences(record.upload, lambda data: store.own_blobs.put("default", [data]))
    assert Counter() not in found
    assert all("mkstemp" in work for work in found), "the file of a new blob is seen"
    data = secrets.token_bytes(SIZE)
    store.own_blobs.put("default", [data])
    record.refer(data, "202")
