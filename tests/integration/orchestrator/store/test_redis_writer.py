"""A writer to Redis cannot reach files outside the directories of API and workers."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from orchestrator.identity.seals import Seals
from orchestrator.store import keys
from orchestrator.store.content.directory import DirectoryBlobs
from tests.harness import Stack, bearer, eventually

CONTENT = b"* * * * * root id\n"


def forge_key(stack: Stack, tenant: str) -> str:
    """An API key of any tenant, sealed as only the API can."""
    secret = f"mfk_{tenant}"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    key = {"id": secret, "name": "x", "tenant": tenant, "scopes": ["admin"], "created_at": "2026-01-01T00:00:00Z"}
    redis, seals = stack.redis.client(), Seals((stack.directory / "state" / "secret").read_bytes().strip())
    redis.hset(keys.API_KEYS, secret, seals.seal("key", f"{digest} {json.dumps(key)}"))
    redis.set(keys.api_key(digest), f"{secret} {tenant} ")
    redis.hset(keys.TENANTS, tenant, "a{}")
    redis.close()
    return secret


def test_a_forged_keys_tenant_is_no_path(api: Stack) -> None:
    """In a directory such as /etc/cron.d a file of this name and content would be executed."""
    target = api.directory / "cron.d"
    target.mkdir()
    for tenant in (os.path.relpath(target, api.directory / "state" / "blobs" / "blobs"), str(target)):
        put = api.client.put("/api/v1/blobs", content=CONTENT, headers=bearer(forge_key(api, tenant)))
        assert put.status_code == 401
        assert list(target.iterdir()) == []
    put = api.client.put("/api/v1/blobs", content=CONTENT, headers=bearer(forge_key(api, "a-name")))  # the control
    assert put.status_code == 201
    assert {key["tenant"] for key in api.client.get("/api/v1/api-keys").json()["items"]} >= {"a-name"}


def test_expiry_entry_is_never_used_as_a_path(api: Stack) -> None:
    precious = api.directory / "precious"
    precious.mkdir()
    with api.redis.client() as redis:
        redis.zadd(keys.EXPIRY, {bytes(precious): 1, b"\xff": 1})
        eventually(lambda: redis.zcard(keys.EXPIRY) == 0, "the janitor has removed the entries")
    expected = "2 entries of mayfly:expiry are not ids of executions"

    def is_reported() -> bool:
        found = api.client.get("/api/v1/security-events", params={"type": "queue_tampering"}).json()["items"]
        return any(expected in event["data"]["detail"] for event in found)

    eventually(is_reported, "the entries are an event")
    assert precious.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "a\n"])
def test_forged_name_does_not_leave_the_blob_directory(tmp_path: Path, name: str) -> None:
    blobs = DirectoryBlobs(tmp_path / "root")
    with pytest.raises(ValueError, match="not a name"):
        blobs.put(name, [b""])
    with pytest.raises(ValueError, match="not a name"):
        blobs.artifact_writer(name, 1)
    with pytest.raises(ValueError, match="not a name"):
        blobs.delete_artifacts(name)
    assert list(tmp_path.iterdir()) == []
