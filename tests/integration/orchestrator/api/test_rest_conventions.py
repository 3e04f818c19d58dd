"""Conventions of every route: required scope, refusals, headers of answers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from orchestrator.identity.authorization import ROUTES
from tests.harness import Process, Stack, bearer, eventually, free_port

EXECUTION = "/api/v1/executions/" + "0" * 32
PROGRAM: dict[str, Any] = {"environment": "python", "code": "print(1)"}

PUBLIC = ["/livez", "/healthz", "/api/versions"]


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem an answer carries, after a look at everything each must have."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "code", "request_id"} <= set(found)
    assert found["status"] == status
    assert found["code"] == code
    assert found["type"].endswith(f"/{code}")
    assert found["request_id"] == answer.headers["x-request-id"]
    assert status != 422 or found["errors"]
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    return found


def call(stack: Stack, method: str, path: str, headers: dict[str, str]) -> httpx2.Response:
    for name in ("id", "path", "call_id", "server", "tool", "name"):
        path = path.replace(f"{{{name}}}", "0" * 32)
    body = b"{}" if path.startswith(("/api/v1/executions", "/api/v1/tool")) or path == "/api/v1/api-keys" else b""
    sent = {"Content-Type": "application/json", **headers}
    return stack.client.request(method, path, content=body if method != "GET" else None, headers=sent)


def test_a_key_is_needed(api: Stack) -> None:
    for route in ROUTES:
        method, path = route.split(" ")
        answer = call(api, method, path, {"Authorization": ""})
        problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer", route


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer mfk_unknown",
        "Basic YWRtaW46YWRtaW4=",
        "mfk_without_a_scheme",
        b"Bearer \xff\xfe",
        "Bearer " + "x" * 20_000,
        "Bearer a, Bearer b",
    ],
)
def test_invalid_api_key_is_refused(api: Stack, authorization: str | bytes | None) -> None:
    headers: Any = {} if authorization is None else {"Authorization": authorization}
    answer = httpx2.get(f"{api.env['MAYFLY_URL']}/api/v1/executions", headers=headers, timeout=60)
    problem(answer, 401, "unauthenticated")
    has_token = str(authorization).startswith(("Bearer ", "b'Bearer "))
    assert answer.headers["www-authenticate"] == ('Bearer error="invalid_token"' if has_token else "Bearer")


def test_request_with_two_credentials_is_refused(api: Stack) -> None:
    """A proxy before the API may have checked another than the API uses."""
    valid = f"Bearer {api.key}"
    for both in ((valid, valid), (valid, "Bearer mfk_unknown"), ("", valid)):
        headers = [("Authorization", one) for one in both]
        answer = httpx2.get(f"{api.env['MAYFLY_URL']}/api/v1/executions", headers=headers, timeout=60)
        problem(answer, 401, "unauthenticated")
        assert "several credentials" in answer.json()["detail"]


def test_a_revoked_key_stops_working_at_once(api: Stack) -> None:
    key = api.new_key("executions:read")
    assert api.client.get("/api/v1/executions", headers=bearer(key["secret"])).status_code == 200
    assert api.client.delete(f"/api/v1/api-keys/{key['id']}").status_code == 204
    problem(api.client.get("/api/v1/executions", headers=bearer(key["secret"])), 401, "unauthenticated")
    problem(api.client.delete(f"/api/v1/api-keys/{key['id']}"), 404, "not_found")


def test_authentication_precedes_body_validation(api: Stack) -> None:
    unauthorized, reader = {"Authorization": "Bearer x"}, bearer(api.new_key("executions:read")["secret"])
    for body, content_type in ((b"{", "application/json"), (b"x", "text/plain"), (b"[" * 100_000, "application/json")):
        for path in ("/api/v1/executions", "/api/v1/executions/batch", "/api/v1/api-keys"):
            headers = {"Content-Type": content_type}
            problem(api.client.post(path, content=body, headers=headers | unauthorized), 401, "unauthenticated")
            problem(api.client.post(path, content=body, headers=headers | reader), 403, "forbidden")


def test_api_keys_are_made_listed_without_their_secret_and_have_only_their_scopes(api: Stack) -> None:
    made = api.new_key("executions:read", "metrics", tenant="t-keys")
    secret = made.pop("secret")
    assert secret.startswith("mfk_")
    assert len(secret) > 40
    assert (made["name"], made["tenant"], made["scopes"]) == ("test", "t-keys", ["executions:read", "metrics"])
    listed = api.client.get("/api/v1/api-keys")
    assert made in listed.json()["items"]
    assert secret not in listed.text
    assert api.key not in listed.text
    with api.redis.client() as redis:
        stored = b"".join(redis.hvals("mayfly:api-keys")) + b"".join(redis.scan_iter())
    assert made["id"].encode() in stored
    assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"name": "x", "scopes": []}, "validation_failed", "scopes"),
        ({"name": "x", "scopes": ["root"]}, "unknown_scope", "scopes"),
        ({"name": "Bad Name", "scopes": ["metrics"]}, "validation_failed", "name"),
        ({"name": "x", "tenant": "../x", "scopes": ["metrics"]}, "validation_failed", "tenant"),
        ({"name": "x", "tenant": "a:b", "scopes": ["metrics"]}, "validation_failed", "tenant"),
        ({"name": "x", "scopes": ["metrics"], "id": "mine"}, "validation_failed", "id"),
        ({"name": "x"}, "validation_failed", "scopes"),
    ],
)
def test_a_bad_api_key_is_not_made(api: Stack, body: dict[str, Any], code: str, field: str) -> None:
    before = len(api.client.get("/api/v1/api-keys").json()["items"])
    found = problem(api.client.post("/api/v1/api-keys", json=body), 422, code)
    assert [error["field"] for error in found["errors"]] == [field]
    assert len(api.client.get("/api/v1/api-keys").json()["items"]) == before


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/api/v1/executions/", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/api/v2/executions", 404, "not_found"),
        ("GET", "/api/v1/executions/..%2f..%2fetc%2fpasswd", 404, "not_found"),
        ("GET", "/api/v1/executions/%00%ff", 404, "not_found"),
        ("PATCH", "/api/v1/executions", 405, "method_not_allowed"),
        ("PUT", EXECUTION, 405, "method_not_allowed"),
        ("TRACE", "/livez", 405, "method_not_allowed"),
        ("GET", "/api/v1/blobs", 405, "method_not_allowed"),
        ("GET", EXECUTION, 404, "not_found"),
        ("GET", "/api/v1/executions?limit=x", 422, "validation_failed"),
        ("GET", f"{EXECUTION}?wait=-1", 422, "validation_failed"),
        ("POST", "/api/v1/workers/none/drain", 404, "not_found"),
        ("DELETE", "/api/v1/workers/none/drain", 404, "not_found"),
    ],
)
def test_every_refusal_is_a_problem(api: Stack, method: str, path: str, status: int, code: str) -> None:
    answer = api.client.request(method, path)
    problem(answer, status, code)
    if status == 405:
        assert answer.headers["allow"]


def test_answer_echoes_request_id(api: Stack) -> None:
    for path, status in (("/livez", 200), ("/nothing", 404), (EXECUTION, 404)):
        answer = api.client.get(path, headers={"X-Request-Id": "caller-7/a b"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, "caller-7/a b")
    assert answer.json()["request_id"] == "caller-7/a b"


def test_every_answer_is_safe_in_a_browser(api: Stack) -> None:
    id = api.client.post("/api/v1/executions", json={"environment": "python", "code": "1"}).json()["id"]
    expected = {
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }
    calls = [
        ("GET", f"/api/v1/executions/{id}"), ("GET", "/api/v1/executions"), ("GET", f"/api/v1/executions/{id}/stdout"),
        ("POST", "/api/v1/executions"), ("GET", "/api/v1/executions/none"), ("TRACE", "/api/v1/executions"),
        ("GET", "/none"), ("GET", "/livez"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("PUT", "/mcp"),
        ("HEAD", f"/api/v1/executions/{id}/stream"),
    ]  # fmt: skip
    for method, path in calls:
        found = api.client.request(method, path).headers
        assert {name: found.get(name) for name in expected} == expected, (method, path)
        assert "access-control-allow-origin" not in found
        assert "set-cookie" not in found


def test_trace_is_refused(api: Stack) -> None:
    assert api.client.request("TRACE", "/livez").status_code == 405


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"caf\xe9", b"a\tb", None])
def test_a_hostile_or_missing_request_id_is_replaced(api: Stack, given: bytes | None) -> None:
    headers: Any = {} if given is None else {"X-Request-Id": given}
    seen = {api.client.get("/livez", headers=headers).headers["x-request-id"] for _ in range(3)}
    assert len(seen) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", id) for id in seen)


def test_health_and_versions_need_no_key(api: Stack) -> None:
    for path in PUBLIC:
        answer = httpx2.get(api.env["MAYFLY_URL"] + path, timeout=60)
        assert answer.status_code == 200, path
        assert answer.headers["x-request-id"]
    assert httpx2.get(api.env["MAYFLY_URL"] + "/api/versions", timeout=60).json() == {
        "versions": [{"version": "v1", "status": "current", "sunset": None}]
    }


def test_readiness_without_worker_names_the_missing_part(api: Stack) -> None:
    answer = httpx2.get(api.env["MAYFLY_URL"] + "/readyz", timeout=60)
    found = problem(answer, 503, "not_ready")
    assert answer.headers["retry-after"] == "2"
    assert found["checks"] == {"redis": "ok", "workers": "no live worker takes executions", "blobs": "ok"}


def test_readiness_with_a_worker(stack: Stack) -> None:
    answer = httpx2.get(stack.env["MAYFLY_URL"] + "/readyz", timeout=60)
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert answer.json()["checks"] == {"redis": "ok", "workers": "ok", "blobs": "ok"}


def test_environments_list_their_limits_and_isolations(stack: Stack) -> None:
    found = {item["name"]: item for item in stack.client.get("/api/v1/environments").json()["items"]}
    assert set(found) == {"python", "python-data", "node", "bash"}
    python = found["python"]
    assert "py" in python["aliases"]
    assert "standard" in python["isolation"]
    assert python["image"].startswith("sha256:")
    assert python["default_limits"]["wall_seconds"] == 5
    assert python["default_limits"]["memory_bytes"] == 512 * 2**20
    assert set(python["default_limits"]) == set(python["maximal_limits"])
    for item in found.values():
        assert all(item["maximal_limits"][name] >= value for name, value in item["default_limits"].items())


def test_workers_and_queues_report_load(api: Stack, stack: Stack) -> None:
    (worker,) = stack.fleet()
    assert 0 <= worker["busy"] <= worker["slots"]
    assert worker["heartbeat_age_seconds"] < 3
    assert set(stack.client.get("/api/v1/queues").json()["queues"]) == {"high", "default", "low"}
    before = api.client.get("/api/v1/queues").json()
    assert api.submit(**PROGRAM, priority="low").status_code == 202
    after = api.client.get("/api/v1/queues").json()
    assert after["queues"] == {**before["queues"], "low": before["queues"]["low"] + 1}
    assert after["queued"] == before["queued"] + 1


def test_the_rate_limit_is_per_principal_and_shared_by_all_api_processes(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(rate_limit="5/20 second").start(workers=0)
    one, other = stack.new_key("executions:read"), stack.new_key("executions:read")
    port = free_port()
    second = Process(
        [sys.executable, "-m", "orchestrator.api"],
        {**stack.env, "MAYFLY_API_PORT": str(port)},
        stack.directory / "api-2.log",
    )
    try:
        urls = [stack.env["MAYFLY_URL"], f"http://127.0.0.1:{port}"]
        with httpx2.Client(headers=bearer(one["secret"]), timeout=60) as client:
            eventually(lambda: _answers(client, f"{urls[1]}/livez"), "the second API process answers", 180)
            answers = [client.get(f"{urls[n % 2]}/api/v1/executions") for n in range(8)]
            assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
            policies = {answer.headers["ratelimit-policy"] for answer in answers}
            assert policies == {'"default";q=5;w=20'}
            left = [re.fullmatch(r'"default";r=(\d+);t=(\d+)', answer.headers["ratelimit"]) for answer in answers]
            assert [int(found[1]) for found in left if found] == [4, 3, 2, 1, 0, 0, 0, 0]
            for answer in answers[5:]:
                problem(answer, 429, "rate_limited")
                assert (answer.json()["bound"], "5 requests within 20 s" in answer.json()["detail"]) == (5, True)
                assert 1 <= int(answer.headers["retry-after"]) <= 40
            # A request with a mistake is counted, too, and its answer has the remaining number.
            refused = client.post(f"{urls[0]}/api/v1/executions", json=PROGRAM)
            problem(refused, 429, "rate_limited")
            problem(client.post(f"{urls[0]}/mcp", json={}), 429, "rate_limited")

            free = client.get(f"{urls[0]}/api/v1/executions", headers=bearer(other["secret"]))
            assert free.status_code == 200, "the other principal has a budget of its own"
            assert free.headers["ratelimit"].startswith('"default";r=4;')
            forbidden = client.post(f"{urls[0]}/api/v1/executions", json=PROGRAM, headers=bearer(other["secret"]))
            problem(forbidden, 403, "forbidden")
            assert forbidden.headers["ratelimit"].startswith('"default";r=3;')

            assert client.get(f"{urls[0]}/livez").status_code == 200
            wait = int(answers[-1].headers["retry-after"])
            eventually(
                lambda: client.get(f"{urls[1]}/api/v1/executions").status_code == 200,
                "the budget is back when Retry-After said",
                wait + 20,
            )
    finally:
        second.stop()


def test_no_request_is_limited_without_a_rate_limit(api: Stack) -> None:
    answers = [api.client.get("/api/v1/environments") for _ in range(60)]
    assert {answer.status_code for answer in answers} == {200}
    assert not any("ratelimit" in answer.headers for answer in answers)


def _answers(client: httpx2.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == 200
    except httpx2.TransportError:
        return False
