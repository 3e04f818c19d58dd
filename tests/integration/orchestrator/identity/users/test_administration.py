"""Administration of own users over REST: lists, idempotency, refusals, the audit log; and the switch."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.settings import Settings, create_secret_file, inherited_environment
from tests.builders.people.own_users import LOGIN, LOGOUT, PASSWORD, REFRESH, SESSIONS, USERS, OwnUser, OwnUsers
from tests.harness import Stack, bearer

GOOD = "a long enough password"


@pytest.fixture(scope="module")
def users(api: Stack) -> OwnUsers:
    return OwnUsers(api)


def body(**changed: Any) -> dict[str, Any]:
    return {"name": f"u-{secrets.token_hex(6)}", "password": GOOD, "roles": ["developer"], **changed}


def test_list_has_pages_and_no_hash(api: Stack, users: OwnUsers) -> None:
    made = [users.create().id for _ in range(3)]
    found: list[dict[str, Any]] = []
    params: dict[str, Any] = {"limit": 2}
    while params:
        page = api.client.get(USERS, params=params).json()
        assert len(page["items"]) <= 2
        found += page["items"]
        params = {"limit": 2, "cursor": page["next_cursor"]} if page["next_cursor"] else {}
    assert [one["id"] for one in found][-3:] == made
    assert set(found[0]) == {
        "id", "name", "tenant", "roles", "disabled", "must_change_password", "created_at", "created_by",
    }  # fmt: skip
    assert "argon2" not in json.dumps(found)


def test_creation_is_idempotent_and_its_body_is_kept_as_no_fast_hash(api: Stack, users: OwnUsers) -> None:
    wanted, headers = body(), {"Idempotency-Key": secrets.token_hex(8)}
    first, again = (api.client.post(USERS, json=wanted, headers=headers) for _ in range(2))
    assert (first.status_code, again.json()) == (201, first.json())
    other = api.client.post(USERS, json={**wanted, "password": "another long password"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    taken = api.client.post(USERS, json=wanted)
    assert (taken.status_code, taken.json()["code"]) == (409, "user_exists")
    assert api.client.delete(f"{USERS}/{first.json()['id']}").status_code == 204
    assert api.client.get(f"{USERS}/{first.json()['id']}").status_code == 404
    assert api.client.post(USERS, json=wanted).status_code == 201, "the name is free again"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"password": "fourteen bytes"}, "password_length"),
        ({"password": "x" + "y" * 256}, "password_length"),
        ({"password": "1234567890123456"}, "password_common"),
        ({"password": "PasswordPassword"}, "password_common"),
        ({"password": "abababababababab"}, "password_common"),
        ({"roles": []}, "validation_failed"),
        ({"roles": ["root"]}, "validation_failed"),
        ({"name": "Not A Name"}, "validation_failed"),
        ({"more": 1}, "validation_failed"),
    ],
)
def test_bad_users_are_refused(api: Stack, users: OwnUsers, changed: dict[str, Any], code: str) -> None:
    refused = api.client.post(USERS, json=body(**changed))
    assert (refused.status_code, refused.json()["code"]) == (422, code), refused.text
    assert str(changed.get("password", "no password")) not in refused.text


def test_each_change_is_audited_by_its_actor_and_the_name_goes_with_the_user(api: Stack, users: OwnUsers) -> None:
    user = users.create()
    admin = users.session(users.create("admin"))
    path, headers = f"{USERS}/{user.id}", bearer(admin["access_token"])
    assert api.client.patch(path, json={"roles": ["auditor"]}, headers=headers).json()["roles"] == ["auditor"]
    assert api.client.patch(path, json={"password": GOOD}, headers=headers).status_code == 200
    assert api.client.patch(path, json={"password": "short"}, headers=headers).status_code == 422
    assert api.client.delete(path, headers=headers).status_code == 204
    entries = api.client.get("/api/v1/audit", params={"limit": 1000}).json()["items"]
    mine = [(one["action"], one["principal"]) for one in entries if one.get("resource") == f"user/{user.id}"]
    by = f"user:{admin['user']['id']}"
    assert mine == [("user.create", "key:admin"), ("user.change", by), ("user.password", by), ("user.delete", by)]
    assert user.name not in json.dumps(entries)
    with api.redis.client() as client:
        dump = b"".join(client.hgetall("mayfly:users").values()) + b"".join(client.hkeys("mayfly:user-names"))
    assert user.name.encode() not in dump


def test_password_that_was_made_for_a_user_is_for_one_change(api: Stack, users: OwnUsers) -> None:
    wanted = body(must_change_password=True)
    made = api.client.post(USERS, json=wanted).json()
    user = OwnUser(made["id"], wanted["name"], wanted["password"])
    for _ in range(2):
        refused = users.log_in(user)
        assert (refused.status_code, refused.json()["code"]) == (403, "password_change_required")
    assert users.log_in(user, password="not the password").status_code == 401
    given = {"name": user.name, "password": user.password}
    same = users.send(PASSWORD, **given, new_password=user.password)
    assert (same.status_code, same.json()["code"]) == (422, "password_unchanged")
    assert users.send(PASSWORD, **given, new_password="a password of one's own").status_code == 200
    assert users.log_in(user).status_code == 401, "it counts no more"
    chosen = user._replace(password="a password of one's own")
    assert users.log_in(chosen).status_code == 200
    change = {"password": GOOD, "must_change_password": True}
    assert api.client.patch(f"{USERS}/{user.id}", json=change).json()["must_change_password"] is True
    assert users.log_in(user._replace(password=GOOD)).json()["code"] == "password_change_required"


@pytest.mark.parametrize("role", ["developer", "operator", "auditor"])
def test_only_admins_administer(api: Stack, users: OwnUsers, role: str) -> None:
    headers = bearer(users.session(users.create(role))["access_token"])
    victim = users.create()
    assert api.client.get(USERS, headers=headers).status_code == 403
    assert api.client.post(USERS, json=body(), headers=headers).status_code == 403
    assert api.client.patch(f"{USERS}/{victim.id}", json={"roles": ["admin"]}, headers=headers).status_code == 403
    assert api.client.delete(f"{USERS}/{victim.id}", headers=headers).status_code == 403


def test_no_secret_of_users_lies_in_redis(api: Stack, users: OwnUsers) -> None:
    user = users.create()
    session = users.session(user)
    with api.redis.client() as client:
        client.execute_command("BGREWRITEAOF")
        dump = b"".join(client.dump(key) or b"" for key in client.keys("mayfly:*"))
        values = [client.hgetall(key) for key in client.keys("mayfly:session:*")]
    for secret in (user.password, session["access_token"], session["refresh_token"], "PRIVATE KEY"):
        assert secret.encode() not in dump
        assert secret[-32:] not in str(values)
    assert oct((api.directory / "state" / "token-keys").stat().st_mode)[-3:] == "600"


@pytest.fixture(scope="module")
def switched_off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An API whose own users are switched off after one of them has logged in."""
    stack = Stack(tmp_path_factory.mktemp("off"))
    stack.redis.start()
    stack.start_api()
    try:
        yield stack
    finally:
        assert stack.api is not None
        stack.api.stop()
        stack.redis.stop()
        stack.client.close()


def test_new_installation_has_no_user(switched_off: Stack) -> None:
    assert switched_off.client.get(USERS).json()["items"] == []


def test_switched_off_calls_are_refused_and_tokens_count_no_more(switched_off: Stack) -> None:
    users = OwnUsers(switched_off)
    session = users.session(users.create())
    assert users.status(session["access_token"]) == 200
    assert switched_off.api is not None
    switched_off.api.stop()
    switched_off.env["MAYFLY_LOCAL_LOGIN"] = "off"
    switched_off.start_api()
    assert users.status(session["access_token"]) == 401
    bodies: dict[str, dict[str, str]] = {
        LOGIN: {"name": "x", "password": "y"},
        PASSWORD: {"name": "x", "password": "y", "new_password": "z"},
        SESSIONS: {"name": "x", "password": "y"},
        REFRESH: {"refresh_token": session["refresh_token"]},
        LOGOUT: {"refresh_token": session["refresh_token"]},
    }
    for path, given in bodies.items():
        refused = users.send(path, **given)
        assert (refused.status_code, refused.json()["code"]) == (403, "local_login_off"), path
    assert switched_off.client.get("/.well-known/jwks.json").json() == {"keys": []}


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("secret", "changeme-changeme-changeme-changeme"),
        ("secret", "ab" * 40),
        ("secret", "0123456789abcdefghij"),
        ("api-key", "mfk_admin"),
    ],
)
def test_guessable_secrets_refuse_to_start_in_production(tmp_path: Path, name: str, secret: str) -> None:
    create_secret_file(tmp_path / "secret")
    create_secret_file(tmp_path / "api-key", "mfk_")
    strict = Settings(state_dir=tmp_path, production=True)
    assert strict.secret() and strict.admin_key(), "the control: what `mayfly up` makes"
    (tmp_path / name).write_text(secret)
    environment = inherited_environment(MAYFLY_STATE_DIR=str(tmp_path), MAYFLY_PRODUCTION="true", MAYFLY_API_PORT="0")
    started = subprocess.run(
        [sys.executable, "-m", "orchestrator.api"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert started.returncode != 0
    assert f"{tmp_path / name} could be guessed" in started.stderr
    lenient = Settings(state_dir=tmp_path)
    assert lenient.secret() and lenient.admin_key(), "on a machine for trying things out they do"
