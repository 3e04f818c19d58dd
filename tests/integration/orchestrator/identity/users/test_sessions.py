"""Sessions of own users over a real API: what a log-in gives, and what takes it away with the next request."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import jwt
import pytest

from orchestrator.host.token_keys import ACCESS_SECONDS, rotate
from orchestrator.store import keys
from tests.builders.mcp_calls import Agent
from tests.builders.people.own_users import LOGOUT, PASSWORD, REFRESH, USERS, OwnUsers
from tests.harness import Stack, bearer, eventually


@pytest.fixture(scope="module")
def users(api: Stack) -> OwnUsers:
    return OwnUsers(api)


def test_log_in_gives_a_token_for_every_route_and_for_agents(api: Stack, users: OwnUsers) -> None:
    user = users.create("developer", tenant="t-own")
    answer = users.log_in(user)
    assert answer.headers["cache-control"] == "no-store"
    session = answer.json()
    header, claims = jwt.get_unverified_header(session["access_token"]), decoded(session)
    assert (header["alg"], header["typ"]) == ("ES256", "at+jwt")
    assert {"exp", "iat", "nbf", "iss", "aud", "sub", "jti"} <= claims.keys()
    assert claims["exp"] - claims["iat"] == session["expires_in"] <= 15 * 60
    assert session["user"] == api.client.get(f"{USERS}/{user.id}").json()
    assert audited(api, "session.create", f"session/{claims['sid']}")["principal"] == f"user:{user.id}"
    body = {"environment": "python", "code": "1"}
    queued = api.client.post("/api/v1/executions", json=body, headers=bearer(session["access_token"])).json()
    assert (queued["principal"], queued["tenant"], queued["key_id"]) == (f"user:{user.id}", "t-own", None)
    agent = Agent(api, headers=bearer(session["access_token"]))
    called = agent.call("get_execution", execution_id=queued["id"], wait_seconds=0)
    assert called["structuredContent"]["state"] == "queued"
    assert users.status(session["access_token"], "/api/v1/workers") == 403


def decoded(session: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(session["access_token"], options={"verify_signature": False})
    return found


def test_token_is_valid_by_the_published_key_set_alone(api: Stack, users: OwnUsers) -> None:
    token = users.session(users.create())["access_token"]
    published = api.client.get("/.well-known/jwks.json", headers={"Authorization": ""}).json()
    assert all("d" not in key for key in published["keys"])
    kid = jwt.get_unverified_header(token)["kid"]
    (key,) = [jwt.PyJWK(key) for key in published["keys"] if key["kid"] == kid]
    assert jwt.decode(token, key, ["ES256"], audience="urn:mayfly:api", issuer="urn:mayfly:users")


def test_refresh_token_is_for_one_use_and_its_second_use_ends_the_session(api: Stack, users: OwnUsers) -> None:
    user = users.create()
    first = users.session(user)
    second = users.send(REFRESH, refresh_token=first["refresh_token"]).json()
    assert decoded(second)["sid"] == decoded(first)["sid"]
    third = users.send(REFRESH, refresh_token=second["refresh_token"]).json()
    assert [users.status(one["access_token"]) for one in (first, second, third)] == [200] * 3
    other = users.session(user)
    reused = users.send(REFRESH, refresh_token=first["refresh_token"])
    assert (reused.status_code, reused.json()["code"]) == (401, "unauthenticated")
    assert [users.status(one["access_token"]) for one in (first, second, third)] == [401] * 3
    assert users.send(REFRESH, refresh_token=third["refresh_token"]).status_code == 401
    assert users.status(other["access_token"]) == 200, "another session of the user continues"
    entry = audited(api, "session.reuse", f"session/{decoded(first)['sid']}")
    assert (entry["principal"], entry["outcome"]) == (f"user:{user.id}", "refused")
    events = {"type": "auth_failure", "limit": 200}
    assert eventually(
        lambda: any(user.id in item["data"]["detail"] for item in items(api, "/api/v1/security-events", **events)),
        "the reuse is an event",
    )


def items(api: Stack, path: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.client.get(path, params=params).json()["items"]
    return found


def audited(api: Stack, action: str, resource: str) -> dict[str, Any]:
    return next(item for item in items(api, "/api/v1/audit", action=action, limit=1000) if item["resource"] == resource)


def test_forged_refresh_token_ends_no_session(users: OwnUsers) -> None:
    session = users.session(users.create())
    head, mac = session["refresh_token"].rsplit("_", 1)
    id = head.split("_")[1]
    for forged in (f"{head}_{'0' * 64}", f"mfr_{id}_7_{mac}", f"mfr_{id}_{mac}", session["access_token"], "x"):
        assert users.send(REFRESH, refresh_token=forged).status_code == 401, forged
        assert users.send(LOGOUT, refresh_token=forged).status_code == 401, forged
    assert users.status(session["access_token"]) == 200


def test_log_out_ends_the_session_with_the_next_request(api: Stack, users: OwnUsers) -> None:
    user = users.create()
    session, other = users.session(user), users.session(user)
    assert users.send(LOGOUT, refresh_token=session["refresh_token"]).status_code == 204
    assert users.status(session["access_token"]) == 401
    assert users.send(REFRESH, refresh_token=session["refresh_token"]).status_code == 401
    assert users.send(LOGOUT, refresh_token=session["refresh_token"]).status_code == 204, "again"
    assert users.status(other["access_token"]) == 200
    assert audited(api, "session.end", f"session/{decoded(session)['sid']}")["principal"] == f"user:{user.id}"


def test_own_password_change_ends_every_session(users: OwnUsers) -> None:
    user = users.create()
    session = users.session(user)
    new = "correct horse battery"
    given = {"name": user.name, "password": user.password, "new_password": new}
    assert users.send(PASSWORD, **given | {"password": "wrong"}).status_code == 401
    refused = users.send(PASSWORD, **given | {"new_password": "short"})
    assert (refused.status_code, refused.json()["code"]) == (422, "password_length")
    assert users.status(session["access_token"]) == 200
    changed = users.send(PASSWORD, **given)
    assert changed.status_code == 200, changed.text
    assert users.status(session["access_token"]) == 401
    assert users.send(REFRESH, refresh_token=session["refresh_token"]).status_code == 401
    assert users.status(changed.json()["access_token"]) == 200
    assert [users.log_in(user).status_code, users.log_in(user, password=new).status_code] == [401, 200]


def test_session_that_is_missing_in_its_users_list_ends_with_the_password(api: Stack, users: OwnUsers) -> None:
    """A Redis that lost writes: the session is of an older password, and so has ended."""
    user = users.create()
    session = users.session(user)
    with closing(api.redis.client()) as redis:
        assert redis.delete(keys.user_sessions(user.id))
    assert users.status(session["access_token"]) == 200
    assert api.client.patch(f"{USERS}/{user.id}", json={"password": "a password by the admin"}).status_code == 200
    assert users.status(session["access_token"]) == 401
    assert users.send(REFRESH, refresh_token=session["refresh_token"]).status_code == 401


CHANGES: dict[str, tuple[dict[str, Any], int]] = {
    "demoted": ({"roles": ["auditor"]}, 403),
    "disabled": ({"disabled": True}, 401),
    "another password": ({"password": "a password by the admin"}, 401),
}


@pytest.mark.parametrize("name", [*CHANGES, "deleted"])
def test_administrators_changes_count_with_the_next_request(api: Stack, users: OwnUsers, name: str) -> None:
    user = users.create("operator")
    session = users.session(user)
    path = f"{USERS}/{user.id}"
    assert users.status(session["access_token"], "/api/v1/workers") == 200
    if name == "deleted":
        assert api.client.delete(path).status_code == 204
    else:
        assert api.client.patch(path, json=CHANGES[name][0]).status_code == 200
    expected = CHANGES[name][1] if name in CHANGES else 401
    assert users.status(session["access_token"], "/api/v1/workers") == expected
    refreshed = users.send(REFRESH, refresh_token=session["refresh_token"]).status_code
    assert refreshed == (200 if expected == 403 else 401)
    if name == "disabled":
        assert users.log_in(user).json()["code"] == "login_refused"
        assert api.client.patch(path, json={"disabled": False}).status_code == 200
        assert users.status(session["access_token"], "/api/v1/workers") == 401, "the session has ended for good"
        assert users.send(REFRESH, refresh_token=session["refresh_token"]).status_code == 401
        assert api.client.get(f"{path}/sessions").json()["items"] == []
        assert users.log_in(user).status_code == 200


def test_rotated_key_counts_until_its_last_token_has_ended(api: Stack, users: OwnUsers) -> None:
    user = users.create()
    before = users.session(user)["access_token"]
    old = jwt.get_unverified_header(before)["kid"]
    new = rotate(users.key_file)
    token = eventually(lambda: signed_by(users, new), "the new key signs")
    assert [users.status(before), users.status(token)] == [200, 200]
    published = api.client.get("/.well-known/jwks.json").json()["keys"]
    assert {old, new} <= {key["kid"] for key in published}
    times = {key.kid: (key.signs_from, key.counts_until) for key in users.keys.counting()}
    assert times[old][1] >= times[new][0] + ACCESS_SECONDS, "its last token"
    assert times[old][1] < time.time() + 16 * 60
    rotate(users.key_file, forget=True)
    assert eventually(lambda: users.status(token) == 401, "tokens of forgotten keys have ended")


def signed_by(users: OwnUsers, kid: str) -> str | None:
    token: str = users.session(users.create())["access_token"]
    return token if jwt.get_unverified_header(token)["kid"] == kid else None
