"""The metadata of the protected resource: what names the issuers to a client that comes without a token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.harness import Stack

ISSUER = {"issuer": "https://login.example/realms/a", "audience": "mayfly", "tenant": "default"}
PLACES = ("", "/mcp")


@pytest.fixture
def with_issuers(tmp_path: Path) -> Iterator[httpx2.Client]:
    """The client of an API that takes tokens of an issuer."""
    stack = Stack(tmp_path, issuers=json.dumps([ISSUER]))
    stack.redis.start()
    stack.start_api()
    try:
        yield stack.client
    finally:
        assert stack.api is not None
        stack.api.stop()
        stack.redis.stop()
        stack.client.close()


def metadata(client: httpx2.Client, place: str, **headers: str) -> httpx2.Response:
    return client.get(f"/.well-known/oauth-protected-resource{place}", headers={"Authorization": "", **headers})


def test_refused_client_finds_the_issuers(with_issuers: httpx2.Client) -> None:
    refused = with_issuers.post("/mcp", json={}, headers={"Authorization": ""})
    named = refused.headers["www-authenticate"]
    assert refused.status_code == 401
    assert named == f'Bearer resource_metadata="{with_issuers.base_url}/.well-known/oauth-protected-resource/mcp"'
    for place in PLACES:
        found = metadata(with_issuers, place)
        assert found.status_code == 200
        assert found.json()["resource"] == f"{with_issuers.base_url}/mcp"
        assert found.json()["authorization_servers"] == [ISSUER["issuer"]]
        assert found.json()["bearer_methods_supported"] == ["header"]
        assert metadata(with_issuers, place, Host="evil.example").status_code == 421
    elsewhere = with_issuers.get("/api/v1/executions", headers={"Authorization": ""})
    assert elsewhere.headers["www-authenticate"] == "Bearer"


def test_metadata_without_issuers_is_not_found(api: Stack) -> None:
    for place in PLACES:
        assert metadata(api.client, place).status_code == 404
    refused = api.client.post("/mcp", json={}, headers={"Authorization": ""})
    assert refused.headers["www-authenticate"] == "Bearer"
