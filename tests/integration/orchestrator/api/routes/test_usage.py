"""Usage over REST, the SDK and the command line."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

import mayfly
from orchestrator.cli import app
from tests.harness import Stack, bearer, eventually

SCOPES = ("executions:read", "executions:write")


def cancelled(api: Stack, headers: dict[str, str], count: int, environment: str = "python") -> None:
    """Executions that have ended, without a worker."""
    for _ in range(count):
        id = api.submit(headers=headers, environment=environment, code="print(1)").json()["id"]
        assert api.client.post(f"/api/v1/executions/{id}/cancel", headers=headers).json()["state"] == "cancelled"


def same(answer: Any) -> tuple[dict[str, Any], list[str]]:
    """An answer without what always differs."""
    return {**answer.json(), "request_id": ""}, sorted(answer.headers)


def read(api: Stack, headers: dict[str, str], tenant: str = "-", **params: str) -> Any:
    return api.client.get(f"/api/v1/tenants/{tenant}/usage", headers=headers, params=params)


def test_usage_is_of_own_tenant_and_any_for_admins(api: Stack) -> None:
    tenant = f"t-{secrets.token_hex(4)}"
    key = api.new_key(*SCOPES, tenant=tenant)
    headers = {"Authorization": f"Bearer {key['secret']}"}
    cancelled(api, headers, 2)
    cancelled(api, headers, 1, "bash")
    today = str(datetime.now(UTC).date())
    found = read(api, headers).json()
    assert (found["tenant"], found["to"], found["by"]) == (tenant, today, "day")
    assert date.fromisoformat(found["from"]) == date.fromisoformat(today) - timedelta(days=29)
    assert [(row["name"], row["executions"], row["wall_seconds"]) for row in found["items"]] == [(today, 3, 0)]
    assert found["total"] == {name: value for name, value in found["items"][0].items() if name != "name"}
    assert [row["name"] for row in read(api, headers, tenant, by="key").json()["items"]] == [key["id"]]
    rows = read(api, headers, by="environment").json()["items"]
    assert [(row["name"], row["executions"]) for row in rows] == [("bash", 1), ("python", 2)]
    assert read(api, headers, **{"from": "2026-01-01", "to": "2026-01-31"}).json()["items"] == []
    admin = {"Authorization": api.client.headers["Authorization"]}
    assert read(api, admin, tenant).json() == found


def test_usage_of_another_tenant_is_refused_as_of_an_unknown_one_and_is_an_event(api: Stack) -> None:
    owner, key = api.headers_of(f"t-{secrets.token_hex(4)}", *SCOPES), api.new_key(*SCOPES, tenant="t-other")
    other = bearer(key["secret"])
    cancelled(api, owner, 1)
    tenant = read(api, owner).json()["tenant"]
    first = read(api, other, tenant)
    assert read(api, other, "t-other").status_code == 200

    def events() -> list[tuple[str, str]]:
        found = api.client.get("/api/v1/security-events", params={"type": "cross_tenant_access", "limit": 200})
        rows = (item["data"] for item in found.json()["items"])
        return [(row["asked_by"], row["owned_by"]) for row in rows if row["key"] == key["id"]]

    eventually(lambda: ("t-other", tenant) in events(), "an event names both tenants")
    for answer in (first, read(api, other, tenant), read(api, other, "t-unknown")):
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert same(answer) == same(first)
    assert read(api, api.headers_of("t-w", "executions:write")).status_code == 403


@pytest.mark.parametrize(
    "params", [{"from": "2026-02-01", "to": "2026-01-01"}, {"from": "2024-01-01", "to": "2026-01-01"}, {"by": "week"}]
)
def test_wrong_ranges_are_refused(api: Stack, params: dict[str, str]) -> None:
    answer = read(api, {}, **params)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) in [(422, ["to"]), (422, ["by"])]


def test_sdk_and_command_show_usage(api: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = f"t-{secrets.token_hex(4)}"
    headers = api.headers_of(tenant, *SCOPES)
    cancelled(api, headers, 2)
    url, token = str(api.client.base_url), headers["Authorization"].removeprefix("Bearer ")
    with mayfly.Client(url, token) as client:
        report = client.usage(by="environment")
        assert (report["total"]["executions"], client.usage(tenant)["tenant"]) == (2, tenant)
        with pytest.raises(mayfly.Refused):
            client.usage("another")
    monkeypatch.setenv("MAYFLY_URL", url)
    monkeypatch.setenv("MAYFLY_TOKEN", token)
    called = CliRunner().invoke(app, ["usage", "--by", "environment", "--json"])
    assert (called.exit_code, json.loads(called.output)) == (0, report)
    lines = CliRunner().invoke(app, ["usage", "--from", report["from"]]).output.splitlines()
    assert [line.split("\t")[:3] for line in lines] == [[report["to"], "2", "0.000 s"], ["total", "2", "0.000 s"]]
