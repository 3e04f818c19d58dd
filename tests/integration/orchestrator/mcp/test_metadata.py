"""The metadata of the protected resource, which names the issuers to a client without a token; no endpoint at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.harness import Stack

ISSUER = {"issuer": "https://login.example/realms/a", "audience": "mayfly", "tenant": "default"}
PLACES = ("", "/mcp")


@contextmanager
def served(directory: Path, **settings: Any) -> Iterator[httpx2.Client]:
    """The client of an API of its own."""
    stack = Stack(directory, **settings)
    stack.redis.start()
    stack.start_api()
    try:
        yield stack.client
    finally:
        assert stack.api is not None
        stack.api.stop()
        stack.redis.stop()
        stack.client.close()


@pytest.fixture
def with_issuers(tmp_path: Path) -> Iterator[httpx2.Client]:
    """The client of an API that takes tokens of an issuer."""
    with served(tmp_path, issuers=[ISSUER]) as client:
        yield client


def metadata(client: httpx2.Client, place: str, **headers: str) -> httpx2.Response:
    return client.get(f"/.well-known/oauth-protected-resource{place}", headers={"Authorization": "", **headers})


def test_refused_client_finds_the_issuers(with_issuers: httpx2.Client) -> None:
    refused = with_issuers.post("/mcp", json={}, headers={"Authorization": ""})
    named = refused.headers["www-authenticate"]
    assert refused.status_code == 401
    assert named == f'Bearer resource_metadata="{with_issuers.base_url}/.well-known/oauth-protected-resource/mcp"'
    wrong = with_issuers.post("/mcp", json={}, headers={"Authorization": "Bearer mfk_wrong"})
    assert wrong.headers["www-authenticate"] == f'{named}, error="invalid_token"'
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


def test_endpoint_can_be_switched_off(tmp_path: Path) -> None:
    with served(tmp_path, mcp_enabled=False) as client:
        answer = client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert "MAYFLY_MCP_ENABLED" in answer.json()["detail"]
        assert client.post("/mcp", json={}, headers={"Authorization": ""}).status_code == 401
        assert client.get("/api/v1/executions").status_code == 200
