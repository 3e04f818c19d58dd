"""Tenants cannot see, name or change each other's resources, nor distinguish them from unknown ones."""

from __future__ import annotations

import secrets
from typing import Any

import httpx2

from tests.harness import Stack

LIST = "/api/v1/executions"
SCOPES = ["executions:read", "executions:write", "blobs:write", "security:read", "metrics"]
PROGRAM = """
import pathlib, sys
pathlib.Path("/output/plot.txt").write_text("a plot")
print("to stdout")
print("to stderr", file=sys.stderr)
"""
# Every verb on an execution and what it leaves, and the status its owner gets once it has ended.
CALLS = [
    ("GET", "", 200),
    ("GET", "?wait=1", 200),
    ("GET", "/stdout", 200),
    ("GET", "/stderr", 200),
    ("GET", "/stream", 200),
    ("GET", "/events", 200),
    ("GET", "/artifacts", 200),
    ("GET", "/artifacts/plot.txt", 200),
    ("POST", "/cancel", 409),
    ("DELETE", "", 204),
]


def tenant_of(stack: Stack) -> dict[str, str]:
    return stack.headers_of(f"t-{secrets.token_hex(6)}", *SCOPES)


def submit(stack: Stack, headers: dict[str, str], wait: int | None = None, **body: object) -> httpx2.Response:
    sent = headers if wait is None else {**headers, "Prefer": f"wait={wait}"}
    return stack.client.post(LIST, json={"environment": "python", **body}, headers=sent)


def refusal(answer: httpx2.Response, id: str) -> tuple[int, dict[str, object]]:
    """An answer without what always differs: the request's id and the name that was asked for."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, {**body, "request_id": "", "detail": body["detail"].replace(id, "ID")}


def test_another_tenants_finished_execution_is_not_found(stack: Stack) -> None:
    owner, other = tenant_of(stack), tenant_of(stack)
    done = submit(stack, owner, wait=60, code=PROGRAM)
    assert (done.status_code, done.json()["state"]) == (200, "succeeded"), done.text
    id, never = done.json()["id"], secrets.token_hex(16)
    for method, rest, _ in CALLS:
        answer = stack.client.request(method, f"{LIST}/{id}{rest}", headers=other)
        unknown = stack.client.request(method, f"{LIST}/{never}{rest}", headers=other)
        assert refusal(answer, id)[0] == 404, (method, rest)
        assert refusal(answer, id) == refusal(unknown, never), (method, rest)
    assert stack.client.get(LIST, headers=other).json() == {"items": [], "next_cursor": None}
    # The same calls by its owner: it was there, and nothing that was tried has changed it.
    for method, rest, status in CALLS:
        answer = stack.client.request(method, f"{LIST}/{id}{rest}", headers=owner)
        assert answer.status_code == status, (method, rest, answer.text)


def test_another_tenants_queued_execution_is_neither_seen_nor_cancelled(api: Stack) -> None:
    owner, other = tenant_of(api), tenant_of(api)
    id = submit(api, owner, code="print(1)").json()["id"]
    assert api.client.post(f"{LIST}/{id}/cancel", headers=other).status_code == 404
    assert api.client.delete(f"{LIST}/{id}", headers=other).status_code == 404
    assert [item["id"] for item in api.client.get(LIST, headers=other).json()["items"]] == []
    assert api.client.get(f"{LIST}/{id}", headers=owner).json()["state"] == "queued"
    assert [item["id"] for item in api.client.get(LIST, headers=owner).json()["items"]] == [id]
    assert api.client.post(f"{LIST}/{id}/cancel", headers=owner).json()["state"] == "cancelled"


def test_keys_of_a_tenant_share_its_executions(api: Stack) -> None:
    one, two = (api.headers_of("t-shared", *SCOPES) for _ in range(2))
    found = submit(api, one, code="print(1)").json()
    assert found["tenant"] == "t-shared"
    assert api.client.get(f"{LIST}/{found['id']}", headers=two).json()["id"] == found["id"]


def test_another_tenants_blob_cannot_be_named(api: Stack) -> None:
    owner, other = tenant_of(api), tenant_of(api)
    content = secrets.token_bytes(100)
    blob = api.client.put("/api/v1/blobs", content=content, headers=owner).json()["blob"]
    program: dict[str, Any] = {"code": "print(1)", "files": [{"path": "data", "blob": blob}]}
    stolen = submit(api, other, **program)
    never = submit(api, other, code="print(1)", files=[{"path": "data", "blob": "sha256:" + "0" * 64}])
    assert (stolen.status_code, stolen.json()["code"]) == (422, "unknown_blob")
    assert refusal(stolen, blob) == refusal(never, "sha256:")
    assert submit(api, owner, **program).status_code == 202
    # Equal bytes give an equal name, without a hint whether another tenant has them.
    again = api.client.put("/api/v1/blobs", content=content, headers=other)
    assert (again.status_code, again.json()["blob"]) == (201, blob)
    assert submit(api, other, **program).status_code == 202


def test_ids_cannot_be_guessed(api: Stack) -> None:
    headers = tenant_of(api)
    ids = [submit(api, headers, code="print(1)").json()["id"] for _ in range(50)]
    assert all(len(id) == 32 and set(id) <= set("0123456789abcdef") for id in ids)
    assert len(set(ids)) == 50
    assert len({id[:8] for id in ids}) == 50, "no part counts or tells the time"
    assert len({id[-8:] for id in ids}) == 50
