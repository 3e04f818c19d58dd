"""Idempotency-Key: repeated and concurrent requests make one execution."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx2
import pytest

from tests.harness import Stack

SUBMIT = "/api/v1/executions"
BODY = b'{"environment": "python", "code": "print(1)"}'
THREADS = 20


@pytest.fixture
def key() -> str:
    return f"key-{secrets.token_hex(8)}"


def send(api: Stack, key: str | None, body: bytes = BODY, headers: dict[str, str] | None = None) -> httpx2.Response:
    sent = {"Content-Type": "application/json", **(headers or {})}
    if key is not None:
        sent["Idempotency-Key"] = key
    return api.client.post(SUBMIT, content=body, headers=sent)


def queued(api: Stack) -> int:
    return int(api.client.get("/api/v1/queues").json()["queued"])


def test_the_same_key_and_body_give_the_same_execution(api: Stack, key: str) -> None:
    before = queued(api)
    first, second = send(api, key), send(api, key)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert first.headers["location"] == second.headers["location"]
    assert queued(api) == before + 1


def test_missing_or_different_idempotency_key_makes_a_new_execution(api: Stack, key: str) -> None:
    before = queued(api)
    answers = [send(api, sent) for sent in (None, None, key, f"{key}x")]
    assert len({answer.json()["id"] for answer in answers}) == 4
    assert queued(api) == before + 4


def test_twenty_concurrent_submissions_with_a_key_make_one_execution(api: Stack, key: str) -> None:
    before, barrier = queued(api), Barrier(THREADS)

    def one(number: int) -> httpx2.Response:
        with httpx2.Client(base_url=api.env["MAYFLY_URL"], headers=api.client.headers, timeout=60) as client:
            client.get("/livez")
            barrier.wait(30)
            return client.post(
                SUBMIT, content=BODY, headers={"Idempotency-Key": key, "Content-Type": "application/json"}
            )

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(one, range(THREADS)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert queued(api) == before + 1


def test_the_same_key_with_another_body_is_a_conflict(api: Stack, key: str) -> None:
    first = send(api, key)
    before = queued(api)
    for body in (BODY.replace(b"1", b"2"), BODY + b" "):
        answer = send(api, key, body)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")
        assert [error["field"] for error in answer.json()["errors"]] == ["Idempotency-Key"]
    assert queued(api) == before
    assert send(api, key).json()["id"] == first.json()["id"]


def test_a_key_belongs_to_its_tenant(api: Stack, key: str) -> None:
    one, other = (api.headers_of(tenant, "executions:read", "executions:write") for tenant in ("t-one", "t-other"))
    mine = send(api, key, headers=one)
    theirs = send(api, key, BODY.replace(b"1", b"2"), other)
    assert (mine.status_code, theirs.status_code) == (202, 202)
    assert mine.json()["id"] != theirs.json()["id"]
    assert send(api, key, headers=one).json()["id"] == mine.json()["id"]


def test_refused_request_leaves_its_idempotency_key_unused(api: Stack, key: str) -> None:
    assert send(api, key, b'{"environment": "cobol", "code": "1"}').status_code == 422
    assert send(api, key).status_code == 202


@pytest.mark.parametrize("bad", ["", "with space", "x" * 256, b"caf\xc3\xa9"])
def test_invalid_idempotency_key_is_refused(api: Stack, bad: Any) -> None:
    before = queued(api)
    answer = send(api, bad)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [error["field"] for error in answer.json()["errors"]] == ["idempotency-key"]
    assert queued(api) == before


def test_a_batch_is_idempotent_at_each_position(api: Stack, key: str) -> None:
    body = {"executions": [{"environment": "python", "code": "print(1)"}] * 2 + [{"environment": "cobol"}]}
    before = queued(api)
    first, second = (
        api.client.post(f"{SUBMIT}/batch", json=body, headers={"Idempotency-Key": key}).json() for _ in range(2)
    )
    assert [item["status"] for item in first] == [202, 202, 422]
    assert [item["execution"]["id"] for item in first[:2]] == [item["execution"]["id"] for item in second[:2]]
    assert len({item["execution"]["id"] for item in first[:2]}) == 2
    assert queued(api) == before + 2
    changed = {"executions": [{"environment": "python", "code": "print(2)"}]}
    answer = api.client.post(f"{SUBMIT}/batch", json=changed, headers={"Idempotency-Key": key}).json()
    assert [(item["status"], item["problem"]["code"]) for item in answer] == [(422, "idempotency_conflict")]
    assert send(api, key).status_code == 202, "a single submission with that key is another request"
