"""How many live streams a tenant may have, and that they are its own business."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from tests.harness import Stack, bearer, eventually

STREAMS = 2


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"streams": STREAMS}


def queued(api: Stack, key: str) -> str:
    answer = api.client.post("/api/v1/executions", json={"environment": "bash", "code": "x"}, headers=bearer(key))
    return f"/api/v1/executions/{answer.json()['id']}/stream"


def test_streams_of_a_tenant_are_bounded(api: Stack) -> None:
    scopes = ("executions:write", "executions:read", "security:read")
    mine, other = (api.new_key(*scopes, tenant=tenant)["secret"] for tenant in ("mine", "other"))
    address, elsewhere = queued(api, mine), queued(api, other)
    waiting: dict[str, str | int] = {"wait": 20, "since": "2100-01-01T00:00:00Z"}
    with ExitStack() as open_streams:
        for _ in range(STREAMS):
            answer = open_streams.enter_context(api.client.stream("GET", address, headers=bearer(mine)))
            assert answer.status_code == 200
        refused = api.client.get(address, headers=bearer(mine))
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
        assert int(refused.headers["Retry-After"]) > 0
        refused = api.client.get("/api/v1/security-events", params=waiting, headers=bearer(mine))
        assert refused.json()["code"] == "too_many_streams"
        assert api.client.get("/api/v1/security-events", headers=bearer(mine)).status_code == 200  # it does not wait
        with api.client.stream("GET", elsewhere, headers=bearer(other)) as answer:
            assert answer.status_code == 200

    def again() -> bool:
        with api.client.stream("GET", address, headers=bearer(mine)) as answer:
            return answer.status_code == 200

    eventually(again, "ended streams are no longer counted")
