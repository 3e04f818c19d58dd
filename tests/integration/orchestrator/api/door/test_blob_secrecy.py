"""Neither status, body, headers nor time reveal whether another tenant has a blob."""

from __future__ import annotations

import hashlib
import secrets
import statistics
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.harness import Stack

BLOBS, EXECUTIONS = "/api/v1/blobs", "/api/v1/executions"
SCOPES = ("blobs:write", "executions:write", "executions:read")
SIZE = 256 * 1024
UNTELLING = {"x-request-id", "date"}


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
    body = {"environment": "python", "entrypoint": "m.py", "files": [{"path": "m.py", "blob": blob}]}
    return api.client.post(EXECUTIONS, json=body, headers=headers)


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


def quarter(calls: tuple[Callable[[int], Any], Callable[[int], Any]], count: int) -> tuple[float, float]:
    """The lower quartile of each of two calls' times, made by turns, in seconds: others' work adds to the rest."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(count):
        for which in (0, 1) if number % 2 else (1, 0):
            began = time.monotonic()
            calls[which](number)
            taken[which].append(time.monotonic() - began)
    return statistics.quantiles(taken[0])[0], statistics.quantiles(taken[1])[0]


def test_foreign_and_missing_blobs_take_equally_long(
    api: Stack, victim: dict[str, str], curious: dict[str, str]
) -> None:
    count = 60
    held = [secrets.token_bytes(SIZE) for _ in range(count)]
    fresh = [secrets.token_bytes(SIZE) for _ in range(count)]
    names, nothing = [digest(data) for data in held], [digest(data) for data in fresh]
    for data in held:
        upload(api, victim, data)
    there, absent = quarter((lambda n: refer(api, curious, names[n]), lambda n: refer(api, curious, nothing[n])), count)
    assert 0.7 < there / absent < 1.4, (there, absent)
    there, absent = quarter((lambda n: upload(api, curious, held[n]), lambda n: upload(api, curious, fresh[n])), count)
    assert 0.7 < there / absent < 1.4, (there, absent)


def test_timing_measurement_detects_a_real_difference(api: Stack, victim: dict[str, str]) -> None:
    """The control: a tenant's own blob shows in status and body, and a longer upload in its time."""
    data, long = b"print(1)  # " + b"x" * SIZE, b"x" * 16 * SIZE
    upload(api, victim, data)
    own, nothing = digest(data), digest(b"nothing")
    assert seen(refer(api, victim, own), own) != seen(refer(api, victim, nothing), nothing)
    longer, shorter = quarter((lambda _: upload(api, victim, long), lambda _: upload(api, victim, data)), 20)
    assert longer / shorter > 1.4, (longer, shorter)
