"""A writer to Redis makes no principal: forged, changed, copied and exchanged records of keys and users are none."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher

from orchestrator.identity.seals import Seals
from orchestrator.store import keys
from tests.builders.people.own_users import REFRESH, USERS, OwnUser, OwnUsers
from tests.harness import Stack, bearer, eventually

KNOWN = "a password that the writer knows"


class Writer:
    """A client of Redis, with an API key and a user of its own, and an administrator's key and user as its aims."""

    def __init__(self, api: Stack) -> None:
        self.api, self.redis, self.users = api, api.redis.client(), OwnUsers(api)
        self.key, self.admin_key = api.new_key("executions:read"), api.new_key("admin")
        self.user, self.admin = self.users.create("developer"), self.users.create("admin")
        self.wider_key, self.wider_user = admin_scopes(self), more_roles(self)

    def status(self, secret: str) -> int:
        """How a call for administrators is answered."""
        return self.api.client.get(USERS, headers=bearer(secret)).status_code

    def log_in(self, user: OwnUser, password: str) -> int:
        return self.users.log_in(user, password=password).status_code

    def text(self, name: str, field: str) -> bytes:
        """A record without its seal."""
        found = self.redis.hget(name, field)
        assert isinstance(found, bytes)
        return found.partition(b" ")[2]

    def seals(self) -> Seals:
        """The seals of the API, with the secret that the writer does not have."""
        return Seals((self.api.directory / "state" / "secret").read_bytes().strip())


@pytest.fixture
def writer(api: Stack) -> Iterator[Writer]:
    made = Writer(api)
    yield made
    made.redis.close()


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def admin_scopes(writer: Writer) -> str:
    """The text of the writer's key, with more scopes."""
    of, _, record = writer.text(keys.API_KEYS, writer.key["id"]).decode().partition(" ")
    return f"{of} {json.dumps({**json.loads(record), 'scopes': ['admin']})}"


def changed_key(writer: Writer, seal: Callable[[str], str]) -> str:
    writer.redis.hset(keys.API_KEYS, writer.key["id"], seal(writer.wider_key))
    return str(writer.key["secret"])


def new_key(writer: Writer, seal: Callable[[str], str]) -> str:
    secret, record = f"mfk_{secrets.token_hex(8)}", json.loads(writer.wider_key.partition(" ")[2])
    writer.redis.hset(keys.API_KEYS, "new", seal(f"{digest(secret)} {json.dumps({**record, 'id': 'new'})}"))
    writer.redis.set(keys.api_key(digest(secret)), "new default ")
    return secret


OLD_SEAL = "0" * 64


@pytest.mark.parametrize("made", [changed_key, new_key])
def test_key_without_a_valid_seal_is_none(writer: Writer, made: Callable[..., str]) -> None:
    for seal in (str, lambda text: f"{OLD_SEAL} {text}", lambda text: Seals(b"guessed").seal("key", text)):
        assert writer.status(made(writer, seal)) == 401
    assert writer.status(made(writer, lambda text: writer.seals().seal("key", text))) == 200, "the control"


def test_secret_of_another_key_does_not_open_an_administrators_record(writer: Writer) -> None:
    assert writer.status(writer.key["secret"]) == 403
    writer.redis.set(keys.api_key(digest(writer.key["secret"])), f"{writer.admin_key['id']} default ")
    assert writer.status(writer.key["secret"]) == 401
    assert writer.status(writer.admin_key["secret"]) == 200


def test_remembered_request_of_another_gives_no_secret(writer: Writer, api: Stack) -> None:
    """The answer to a repeated request has the key's secret again: only to the request that made it."""
    body = {"name": "n", "tenant": "t-seals", "scopes": ["mcp"]}
    made = api.client.post("/api/v1/api-keys", json=body, headers={"Idempotency-Key": "of-the-admin"}).json()
    thief = api.new_key("tenant:admin", tenant="t-seals")
    remembered = writer.redis.get(keys.api_key_request("key:admin", "of-the-admin"))
    assert isinstance(remembered, bytes)
    writer.redis.set(keys.api_key_request(f"key:{thief['id']}", "stolen"), remembered)
    answer = api.client.post(
        "/api/v1/api-keys", json=body, headers={**bearer(thief["secret"]), "Idempotency-Key": "stolen"}
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["id"] == made["id"]
    assert answer.json()["secret"] != made["secret"]
    assert writer.status(answer.json()["secret"]) == 401


def more_roles(writer: Writer) -> str:
    return json.dumps({**json.loads(writer.text(keys.USERS, writer.user.id)), "roles": ["admin"]})


def test_user_with_roles_of_the_writer_is_none(writer: Writer) -> None:
    token = writer.users.session(writer.user)["access_token"]
    assert writer.status(token) == 403
    for stored in (writer.wider_user, f"{OLD_SEAL} {writer.wider_user}"):
        writer.redis.hset(keys.USERS, writer.user.id, stored)
        assert writer.status(token) == 401
        assert writer.log_in(writer.user, writer.user.password) == 401
    sealed = writer.seals().seal(f"user {writer.user.id}", writer.wider_user)
    writer.redis.hset(keys.USERS, writer.user.id, sealed)
    assert writer.status(token) == 200, "the control"


def test_record_of_an_administrator_counts_under_its_own_id_alone(writer: Writer) -> None:
    token = writer.users.session(writer.user)["access_token"]
    record = writer.redis.hget(keys.USERS, writer.admin.id)
    assert isinstance(record, bytes)
    writer.redis.hset(keys.USERS, writer.user.id, record)
    assert writer.status(token) == 401


def test_password_of_the_writer_opens_no_other_user(writer: Writer) -> None:
    hash = PasswordHasher().hash(KNOWN)
    own = writer.redis.hget(keys.USER_PASSWORDS, writer.user.id)
    assert isinstance(own, bytes)
    for stored, password in ((hash, KNOWN), (f"{OLD_SEAL} {hash}", KNOWN), (own, writer.user.password)):
        writer.redis.hset(keys.USER_PASSWORDS, writer.admin.id, stored)
        assert writer.log_in(writer.admin, password) == 401
    sealed = writer.seals().seal(f"password {writer.admin.id}", hash)
    writer.redis.hset(keys.USER_PASSWORDS, writer.admin.id, sealed)
    assert writer.log_in(writer.admin, KNOWN) == 200, "the control"


def test_session_of_another_user_gives_no_token(writer: Writer) -> None:
    session = writer.users.session(writer.user)
    key = keys.session(session["refresh_token"].split("_")[1])
    writer.redis.hset(key, "user", writer.admin.id)
    assert writer.users.send(REFRESH, refresh_token=session["refresh_token"]).status_code == 401
    named = session["refresh_token"].replace(writer.user.id, writer.admin.id)
    assert named != session["refresh_token"]
    assert writer.users.send(REFRESH, refresh_token=named).status_code == 401
    assert writer.status(session["access_token"]) == 401


def test_records_without_a_seal_are_counted_and_listed_nowhere(writer: Writer, api: Stack) -> None:
    writer.redis.hset(keys.API_KEYS, "unsealed", writer.wider_key)
    writer.redis.hset(keys.USERS, writer.user.id, writer.wider_user)
    listed: list[dict[str, Any]] = api.client.get(USERS, params={"limit": 200}).json()["items"]
    assert writer.user.id not in {user["id"] for user in listed}
    assert "unsealed" not in {key["id"] for key in api.client.get("/api/v1/api-keys?limit=200").json()["items"]}
    counted = 'mayfly_store_malformed_total{what="seals"}'
    assert eventually(lambda: counted in api.client.get("/metrics").text, "an alarm sees them")
