"""Live streams and long polls: how many a tenant may have, and which changes of their callers end them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from orchestrator.store import keys
from tests.builders.people.own_users import USERS, OwnUsers
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
    for _ in range(2 * STREAMS):
        eventually(
            lambda: api.client.head(address, headers=bearer(mine)).status_code == 200,
            "a stream without a body has ended",
        )


def test_stream_of_a_revoked_key_ends(api: Stack) -> None:
    """The control: the stream of another key continues to the end."""
    revoked, kept = (api.new_key("executions:write", "executions:read", tenant="keys") for _ in range(2))
    address = queued(api, kept["secret"])
    with (
        api.client.stream("GET", address, headers=bearer(revoked["secret"])) as ended,
        api.client.stream("GET", address, headers=bearer(kept["secret"])) as whole,
    ):
        rest = whole.iter_lines()
        assert next(rest) == "event: state"
        assert api.client.delete(f"/api/v1/api-keys/{revoked['id']}").status_code == 204
        assert "event: done" not in list(ended.iter_lines()), "it ends while the execution is queued"
        cancel = address.removesuffix("stream") + "cancel"
        assert api.client.post(cancel, headers=bearer(kept["secret"])).status_code == 202
        assert "event: done" in list(rest)


def test_stream_and_long_poll_of_a_demoted_user_end(api: Stack) -> None:
    """The control: the stream of another user of the tenant continues to the end."""
    users = OwnUsers(api)
    demoted, kept = (users.create("developer", tenant="roles") for _ in range(2))
    tokens = [users.session(user)["access_token"] for user in (demoted, kept)]
    address = queued(api, tokens[1])
    with (
        ThreadPoolExecutor(2) as threads,
        api.client.stream("GET", address, headers=bearer(tokens[0])) as ended,
        api.client.stream("GET", address, headers=bearer(tokens[1])) as whole,
    ):
        path, waiting = address.removesuffix("/stream"), {"wait": "60"}
        poll = threads.submit(api.client.get, path, params=waiting, headers=bearer(tokens[0]), timeout=120)
        rest = whole.iter_lines()
        assert next(rest) == "event: state"
        assert api.client.patch(f"{USERS}/{demoted.id}", json={"roles": ["auditor"]}).status_code == 200
        lines = threads.submit(list, ended.iter_lines())
        assert (poll.result(120).status_code, poll.result().json()["code"]) == (403, "forbidden")
        assert "event: done" not in lines.result(120), "it ends while the execution is queued"
        assert api.client.post(f"{path}/cancel", headers=bearer(tokens[1])).status_code == 202
        assert "event: done" in list(rest)


@pytest.mark.parametrize("how", ["read", "prefer", "events"])
def test_long_poll_of_a_revoked_key_ends(api: Stack, how: str) -> None:
    """The control: the request of another key waits for as long as it asked to."""
    scopes = ("executions:write", "executions:read", "security:read")
    revoked, kept = (api.new_key(*scopes, tenant="polls") for _ in range(2))
    path = queued(api, kept["secret"]).removesuffix("/stream")

    def poll(key: dict[str, Any], seconds: int) -> httpx2.Response:
        headers, waiting = bearer(key["secret"]), {"wait": str(seconds)}
        if how == "read":
            return api.client.get(path, params=waiting, headers=headers, timeout=120)
        if how == "events":
            params = waiting | {"since": "2100-01-01T00:00:00Z"}
            return api.client.get("/api/v1/security-events", params=params, headers=headers, timeout=120)
        body = {"environment": "bash", "code": "x"}
        headers |= {"Prefer": f"wait={seconds}"}
        return api.client.post("/api/v1/executions", json=body, headers=headers, timeout=120)

    with ThreadPoolExecutor(2) as threads, api.redis.client() as redis:
        ended, whole = threads.submit(poll, revoked, 60), threads.submit(poll, kept, 8)
        eventually(lambda: redis.hexists(keys.API_KEY_USES, revoked["id"]), "the request was let in")
        assert api.client.delete(f"/api/v1/api-keys/{revoked['id']}").status_code == 204
        answer = ended.result(120)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert whole.result(120).status_code in (200, 202)
