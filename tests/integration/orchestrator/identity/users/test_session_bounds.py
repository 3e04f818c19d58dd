"""Bounds of own users' sessions over a real API: number, times, lost answers, and who sees and ends them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis

from orchestrator.identity.users.sessions import AGAIN_SECONDS, IDLE_SECONDS, LONGEST_SECONDS, MOST_SESSIONS
from orchestrator.store import keys
from tests.builders.people.own_users import LOGOUT, REFRESH, SESSIONS, USERS, OwnUser, OwnUsers
from tests.harness import Stack, bearer


@pytest.fixture(scope="module")
def users(api: Stack) -> OwnUsers:
    return OwnUsers(api)


def id_of(session: dict[str, Any]) -> str:
    return str(session["refresh_token"].split("_")[1])


def refreshed(users: OwnUsers, session: dict[str, Any]) -> dict[str, Any] | None:
    """The next tokens; nothing for a session that has ended."""
    answer = users.send(REFRESH, refresh_token=session["refresh_token"])
    assert answer.status_code in (200, 401), answer.text
    return dict(answer.json()) if answer.status_code == 200 else None


@contextmanager
def stored(api: Stack, session: dict[str, Any]) -> Iterator[tuple[Redis, str]]:
    """Redis, and the key of a session in it, whose times stand for the clock."""
    with api.redis.client() as redis:
        yield redis, keys.session(id_of(session))


def own(users: OwnUsers, user: OwnUser, *end: str) -> list[dict[str, Any]]:
    answer = users.send(SESSIONS, name=user.name, password=user.password, end=end)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def test_session_ends_seven_days_after_the_log_in_despite_refreshes(api: Stack, users: OwnUsers) -> None:
    session = users.session(users.create())
    with stored(api, session) as (redis, key):
        redis.hincrby(key, "began", 600 - LONGEST_SECONDS)
        later = refreshed(users, session)
        assert later is not None
        assert 0 < redis.ttl(key) <= 600, "it ends by itself, and with it the access tokens"
        assert later["refresh_expires_in"] <= 600
        redis.hincrby(key, "began", -600)
        redis.persist(key)
        assert refreshed(users, later) is None, "and no refresh counts that comes later"


def test_session_ends_after_twelve_hours_without_a_refresh(api: Stack, users: OwnUsers) -> None:
    session = users.session(users.create())
    with stored(api, session) as (redis, key):
        assert 0 < redis.ttl(key) <= session["refresh_expires_in"] == IDLE_SECONDS == 12 * 3600
        redis.expire(key, 600)
        later = refreshed(users, session)
        assert later is not None
        assert 600 < redis.ttl(key) <= IDLE_SECONDS, "a refresh begins the time anew"
        redis.expire(key, -1)  # as time would
        assert users.status(later["access_token"]) == 401
        assert refreshed(users, later) is None


def test_refresh_token_whose_answer_was_lost_may_come_again_for_a_short_time(api: Stack, users: OwnUsers) -> None:
    session = users.session(users.create())
    once = refreshed(users, session)
    with stored(api, session) as (redis, key):
        redis.hincrby(key, "used", 3600)  # however slow this machine is
    again = refreshed(users, session)
    assert once is not None
    assert again is not None
    assert once["refresh_token"] == again["refresh_token"], "there is one successor"
    assert [users.status(one["access_token"]) for one in (session, once, again)] == [200] * 3
    with stored(api, session) as (redis, key):
        assert redis.hget(key, "refreshed") == b"1"
    found = api.client.get("/api/v1/audit", params={"action": "session.repeat"}).json()["items"]
    assert [entry["resource"] for entry in found][:1] == [f"session/{id_of(session)}"]
    assert refreshed(users, session) is None, "a third use is a thief's"
    assert refreshed(users, once) is None, "and the session is over"
    assert users.status(once["access_token"]) == 401


def test_refresh_token_that_comes_again_late_ends_the_session(api: Stack, users: OwnUsers) -> None:
    session = users.session(users.create())
    once = refreshed(users, session)
    assert once is not None
    with stored(api, session) as (redis, key):
        redis.hincrby(key, "used", -AGAIN_SECONDS - 1)
    assert refreshed(users, session) is None
    assert users.status(once["access_token"]) == 401


def test_refresh_token_before_the_last_ends_the_session_at_once(users: OwnUsers) -> None:
    session = users.session(users.create())
    second = refreshed(users, session)
    assert second is not None
    assert refreshed(users, second) is not None
    assert refreshed(users, session) is None
    assert users.status(second["access_token"]) == 401


def test_log_in_beyond_the_most_sessions_ends_the_oldest(api: Stack, users: OwnUsers) -> None:
    user, other = users.create(), users.create()
    spared = users.session(other)
    sessions = [users.session(user) for _ in range(MOST_SESSIONS)]
    assert users.send(LOGOUT, refresh_token=sessions[1]["refresh_token"]).status_code == 204
    sessions.append(users.session(user))
    assert users.status(sessions[0]["access_token"]) == 200, "a session that was ended makes room"
    sessions.append(users.session(user))
    statuses = [users.status(session["access_token"]) for session in sessions]
    assert statuses == [401, 401] + [200] * MOST_SESSIONS
    assert users.status(spared["access_token"]) == 200
    entries = api.client.get("/api/v1/audit", params={"action": "session.end", "limit": 1000}).json()["items"]
    mine = [entry["code"] for entry in entries if entry["resource"] == f"user/{user.id}"]
    assert mine == ["too_many_sessions"]


def test_user_sees_and_ends_own_sessions_with_the_password_alone(users: OwnUsers) -> None:
    user, other = users.create(), users.create()
    first, second, foreign = users.session(user), users.session(user), users.session(other)
    listed = own(users, user)
    assert [session["id"] for session in listed] == [id_of(first), id_of(second)]
    assert {session["address"] for session in listed} == {"127.0.0.1"}
    assert all(session["created_at"] <= session["refreshed_at"] < session["ends_at"] for session in listed)
    wrong = users.send(SESSIONS, name=user.name, password="not the password", end=[id_of(second)])
    assert (wrong.status_code, wrong.json()["code"]) == (401, "login_refused")
    assert users.status(second["access_token"]) == 200
    assert [session["id"] for session in own(users, user, id_of(first), id_of(foreign))] == [id_of(second)]
    assert [users.status(one["access_token"]) for one in (first, second, foreign)] == [401, 200, 200]
    assert users.send(SESSIONS, name=user.name, password=user.password, end=["x"]).status_code == 422


def test_listing_counts_as_a_log_in_that_succeeded(api: Stack, users: OwnUsers) -> None:
    """Otherwise a handful of lists would delay the user as wrong passwords do."""
    user = users.create()
    for _ in range(8):
        assert own(users, user) == []
    with api.redis.client() as redis:
        assert not redis.exists(keys.user_sessions(user.id)), "and opens no session"


def test_administrator_sees_and_ends_a_users_sessions(api: Stack, users: OwnUsers) -> None:
    user, other = users.create(), users.create()
    first, second = users.session(user), users.session(user)
    path = f"{USERS}/{user.id}/sessions"
    answer = api.client.get(path).json()
    assert [session["id"] for session in answer["items"]] == [id_of(first), id_of(second)]
    assert answer["next_cursor"] is None
    admin = users.session(users.create("admin"))
    headers = bearer(admin["access_token"])
    assert api.client.delete(f"{USERS}/{other.id}/sessions/{id_of(first)}", headers=headers).status_code == 404
    assert api.client.delete(f"{path}/{id_of(first)}", headers=headers).status_code == 204
    assert api.client.delete(f"{path}/{id_of(first)}", headers=headers).status_code == 404
    assert [users.status(one["access_token"]) for one in (first, second)] == [401, 200]
    entries = api.client.get("/api/v1/audit", params={"action": "session.end", "limit": 1000}).json()["items"]
    (entry,) = [entry for entry in entries if entry["resource"] == f"session/{id_of(first)}"]
    assert entry["principal"] == f"user:{admin['user']['id']}"
    for role in ("developer", "operator", "auditor"):
        weaker = bearer(users.session(users.create(role))["access_token"])
        assert api.client.get(path, headers=weaker).status_code == 403, role
        assert api.client.delete(f"{path}/{id_of(second)}", headers=weaker).status_code == 403, role
    assert api.client.get(f"{USERS}/none/sessions").status_code == 404


def test_sessions_leave_nothing_behind(api: Stack, users: OwnUsers) -> None:
    changed, deleted = users.create(), users.create()
    sessions = [users.session(user) for user in (changed, changed, deleted)]
    assert api.client.patch(f"{USERS}/{changed.id}", json={"password": "another long password"}).status_code == 200
    assert api.client.delete(f"{USERS}/{deleted.id}").status_code == 204
    with api.redis.client() as redis:
        assert not redis.exists(*(keys.session(id_of(session)) for session in sessions))
        assert not redis.exists(keys.user_sessions(changed.id), keys.user_sessions(deleted.id))
