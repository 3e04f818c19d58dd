"""Quotas over REST, the SDK and the command line."""

from __future__ import annotations

import json
import secrets
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from httpx2 import TransportError
from typer.testing import CliRunner

import mayfly
from orchestrator.cli import app
from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas
from tests.harness import Process, Stack, eventually, free_port

SCOPES = ("executions:read", "executions:write")
CALLER_TOOL = {"name": "look_up", "inputSchema": {"type": "object"}}


@pytest.fixture
def tenant() -> str:
    return f"t-{secrets.token_hex(4)}"


@pytest.fixture
def key(api: Stack, tenant: str) -> dict[str, Any]:
    return api.new_key(*SCOPES, tenant=tenant)


@pytest.fixture
def headers(key: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {key['secret']}"}


def put(api: Stack, path: str, **quotas: Any) -> dict[str, Any]:
    answer = api.client.put(f"/api/v1/{path}/quotas", json=quotas)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def submit(api: Stack, headers: dict[str, str], **body: Any) -> httpx2.Response:
    return api.submit(headers=headers, **{"environment": "python", "code": "print(1)", **body})


def test_used_up_quota_is_refused_with_bound_use_and_advice(
    api: Stack, tenant: str, key: dict[str, Any], headers: dict[str, str]
) -> None:
    put(api, f"tenants/{tenant}", queued=2)
    ids = [submit(api, headers).json()["id"] for _ in range(2)]
    answer = submit(api, headers)
    problem = answer.json()
    assert (answer.status_code, problem["code"], answer.headers["retry-after"]) == (429, "quota_exceeded", "5")
    assert {name: problem[name] for name in ("quota", "quota_of", "bound", "used")} == {
        "quota": "queued", "quota_of": "tenant", "bound": 2, "used": 2,
    }  # fmt: skip
    assert "cancel some" in problem["detail"]
    batch = api.client.post("/api/v1/executions/batch", json={"executions": [{"environment": "python", "code": "1"}]})
    assert batch.json()[0]["status"] == 202, "another tenant's"
    assert api.client.post(f"/api/v1/executions/{ids[0]}/cancel", headers=headers).status_code == 202
    assert submit(api, headers).status_code == 202
    put(api, f"api-keys/{key['id']}", executions_per_day=3)
    put(api, f"tenants/{tenant}", queued=9)
    answer = submit(api, headers)
    assert (answer.status_code, answer.json()["quota"], answer.json()["quota_of"]) == (
        429, "executions_per_day", "key",
    )  # fmt: skip
    assert int(answer.headers["retry-after"]) <= 86400
    counted = ('mayfly_quota_refusals_total{of="tenant"', 'mayfly_requests_refused_total{code="quota_exceeded"}')
    eventually(lambda: all(name in api.client.get("/metrics").text for name in counted), "both refusals are counted")


@pytest.mark.parametrize(
    ("quotas", "body", "allowed", "quota"),
    [
        ({"environments": ["bash"]}, {}, {"environment": "bash", "code": "echo"}, "environment"),
        ({"isolation": []}, {}, None, "isolation"),
        ({"tools": ["crm.*"]}, {"tools": ["crm.find", "github.*"]}, {"tools": ["crm.find"]}, "tools"),
        ({"tools": ["crm.*"]}, {"tools": ["*"]}, {}, "tools"),
        ({"tools": []}, {"tools": ["crm.find"]}, {"tools": [CALLER_TOOL]}, "tools"),
    ],
)
@pytest.mark.parametrize("of", ["tenant", "key"])
def test_submission_beyond_a_quota_is_refused(
    api: Stack,
    tenant: str,
    key: dict[str, Any],
    headers: dict[str, str],
    of: str,
    quotas: dict[str, Any],
    body: dict[str, Any],
    allowed: dict[str, Any] | None,
    quota: str,
) -> None:
    put(api, f"tenants/{tenant}" if of == "tenant" else f"api-keys/{key['id']}", **quotas)
    answer = submit(api, headers, **body)
    found = answer.json()
    expected = (403, f"not_allowed_by_{of}", quota, of)
    assert (answer.status_code, found["code"], found["quota"], found["quota_of"]) == expected
    assert f"is not among the names that this {of} may use" in found["detail"]
    if allowed is not None:
        assert submit(api, headers, **allowed).status_code == 202
    put(api, f"tenants/{tenant}" if of == "tenant" else f"api-keys/{key['id']}")
    assert submit(api, headers).status_code == 202, "a process that knew the quotas has learned that they are gone"


def test_largest_limits_bound_requested_and_default_limits(api: Stack, tenant: str, headers: dict[str, str]) -> None:
    put(api, f"tenants/{tenant}", limits={"wall_seconds": 2.0, "memory_bytes": 300 * 2**20})
    answer = submit(api, headers, limits={"wall_seconds": 2.5})
    found = answer.json()
    assert (answer.status_code, found["code"], found["bound"], found["quota"]) == (422, "quota_exceeded", 2.0, "limits")
    assert found["errors"][0]["field"] == "limits.wall_seconds"
    accepted = submit(api, headers, limits={"cpu_seconds": 1.0}).json()["limits"]
    assert [accepted[name] for name in ("wall_seconds", "memory_bytes", "cpu_seconds")] == [2.0, 300 * 2**20, 1.0]
    put(api, f"tenants/{tenant}", limits={"wall_seconds": 3.0})
    assert submit(api, headers, limits={"wall_seconds": 2.5}).status_code == 202


def test_quota_is_exact_over_two_processes_of_which_one_is_killed(
    api: Stack, tenant: str, headers: dict[str, str]
) -> None:
    """Sixteen clients submit to both; answers may be lost, but no submission is counted twice or not at all."""
    put(api, f"tenants/{tenant}", queued=60)
    port = free_port()
    second = Process(
        [sys.executable, "-m", "orchestrator.api"], {**api.env, "MAYFLY_API_PORT": str(port)}, api.directory / "2.log"
    )
    urls = [str(api.client.base_url), f"http://127.0.0.1:{port}"]
    accepted: list[str] = []
    refusals: list[tuple[int, float]] = []

    def client(number: int) -> None:
        with httpx2.Client(base_url=urls[number % 2], headers=headers, timeout=30) as http, suppress(TransportError):
            for _ in range(10):
                answer = http.post("/api/v1/executions", json={"environment": "python", "code": "print(1)"})
                if answer.status_code == 202:
                    accepted.append(answer.json()["id"])
                else:
                    refusals.append((answer.status_code, answer.json()["used"]))
                if number == 1 and len(accepted) > 20:
                    second.stop(signal.SIGKILL)

    try:
        eventually(lambda: httpx_answers(urls[1]), "the second process answers", 180)
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(client, range(16)))
    finally:
        second.stop(signal.SIGKILL)
    own = api.client.get("/api/v1/tenants/-/quotas", headers=headers).json()["use"]["queued"]
    listed = api.client.get("/api/v1/executions?limit=200", headers=headers).json()["items"]
    assert (own, len(listed)) == (60, 60)
    assert {execution["id"] for execution in listed} >= set(accepted)
    assert len(accepted) > 20
    assert set(refusals) == {(429, 60)}


def httpx_answers(url: str) -> bool:
    with suppress(TransportError):
        return httpx2.get(f"{url}/livez").status_code == 200
    return False


def test_tenants_see_their_own_quotas_and_only_admins_set_them(
    api: Stack, tenant: str, key: dict[str, Any], headers: dict[str, str]
) -> None:
    set_to = put(api, f"tenants/{tenant}", running=3, weight=2)
    assert set_to["quotas"] == TenantQuotas(running=3, weight=2).model_dump(mode="json")
    submit(api, headers)
    own = api.client.get("/api/v1/tenants/-/quotas", headers=headers).json()
    assert (own["tenant"], own["quotas"], own["use"]["queued"]) == (tenant, set_to["quotas"], 1)
    assert own["use"]["executions_today"] == 1
    assert own["use"]["stored_bytes"] > 5000
    assert own["use"]["cpu_seconds_reserved"] == 5.0
    calls = [
        ("GET", "tenants/another", 403), ("PUT", f"tenants/{tenant}", 403), ("PUT", "tenants/-", 403),
        ("GET", f"api-keys/{key['id']}", 403), ("PUT", f"api-keys/{key['id']}", 403),
    ]  # fmt: skip
    for method, path, status in calls:
        json_body: dict[str, Any] = {"json": {}} if method == "PUT" else {}
        answer = api.client.request(method, f"/api/v1/{path}/quotas", headers=headers, **json_body)
        assert answer.status_code == status, (method, path, answer.text)
    assert put(api, f"api-keys/{key['id']}", queued=1)["quotas"] == KeyQuotas(queued=1).model_dump(mode="json")
    for method in ("GET", "PUT"):
        json_body = {"json": {}} if method == "PUT" else {}
        answer = api.client.request(method, "/api/v1/api-keys/unknown/quotas", **json_body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("tenants/t", {"queued": -1}, "queued"),
        ("tenants/t", {"queue": 1}, "queue"),
        ("tenants/t", {"weight": 0}, "weight"),
        ("tenants/t", {"limits": {"wall_seconds": 0}}, "limits.wall_seconds"),
        ("tenants/t", {"isolation": ["none"]}, "isolation.0"),
        ("api-keys/k", {"weight": 1}, "weight"),
    ],
)
def test_wrong_quotas_are_refused(api: Stack, path: str, body: dict[str, Any], field: str) -> None:
    answer = api.client.put(f"/api/v1/{path}/quotas", json=body)
    assert (answer.status_code, [error["field"] for error in answer.json()["errors"]]) == (422, [field])


def test_sdk_and_command_show_and_set_quotas(
    api: Stack, tenant: str, key: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, admin = str(api.client.base_url), api.client.headers["Authorization"].removeprefix("Bearer ")
    with mayfly.Client(url, admin) as client:
        assert client.set_quotas({"queued": 5}, tenant=tenant)["quotas"]["queued"] == 5
        assert client.set_quotas({"queued": 4}, key=key["id"]) == client.quotas(key=key["id"])
    with mayfly.Client(url, key["secret"], patience_seconds=0) as client:
        assert client.quotas()["quotas"]["queued"] == 5
        for _ in range(4):
            client.submit("print(1)")
        with pytest.raises(mayfly.Refused) as caught:
            client.submit("print(1)")
        assert caught.value.code == "quota_exceeded"
    monkeypatch.setenv("MAYFLY_URL", url)
    monkeypatch.setenv("MAYFLY_TOKEN", admin)
    command = ["quotas", "set", "--tenant", tenant]
    called = CliRunner().invoke(app, [*command, "running=2", "environments=python,bash", "--json"])
    assert called.exit_code == 0, called.output
    shown = json.loads(called.output)["quotas"]
    assert [shown[name] for name in ("queued", "running", "environments")] == [5, 2, ["python", "bash"]]
    lines = CliRunner().invoke(app, ["quotas", "show", "--tenant", tenant]).output.splitlines()
    assert "queued\t5\t4" in lines
    replaced = CliRunner().invoke(app, [*command, "weight=3", "--replace", "--json"])
    assert json.loads(replaced.output)["quotas"] == TenantQuotas(weight=3).model_dump(mode="json")
    assert CliRunner().invoke(app, [*command, "queued"]).exit_code == 2
