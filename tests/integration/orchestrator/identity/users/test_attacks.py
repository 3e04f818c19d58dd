"""Attacks with tokens of own users: each is one and the same 401, and an event."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx2
import jwt
import pytest

from orchestrator.host.token_keys import ACCESS_SECONDS
from tests.builders.forged_tokens import changed, forged, part
from tests.builders.issuers import SigningKey
from tests.builders.mcp_calls import Agent
from tests.builders.people.own_users import LOGOUT, OwnUser, OwnUsers
from tests.harness import Stack, bearer, eventually

SUBMIT = "/api/v1/executions"


class Thief:
    """Has the key file of the API, and an open session of a user."""

    def __init__(self, users: OwnUsers) -> None:
        self.users = users
        self.user: OwnUser = users.create("developer")
        self.session = users.session(self.user)
        current = users.keys.current()
        assert current is not None
        self.key = SigningKey(current.kid)
        self.key.private = current.private

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        made = jwt.decode(self.session["access_token"], options={"verify_signature": False})
        fresh = {"iat": now, "nbf": now, "exp": now + ACCESS_SECONDS, "jti": secrets.token_hex(16)}
        return {name: value for name, value in {**made, **fresh, **changes}.items() if value is not None}


@pytest.fixture(scope="module")
def thief(api: Stack) -> Thief:
    return Thief(OwnUsers(api))


def ended(thief: Thief) -> str:
    session = thief.users.session(thief.user)
    assert thief.users.send(LOGOUT, refresh_token=session["refresh_token"]).status_code == 204
    token: str = session["access_token"]
    return token


def relabelled(thief: Thief) -> str:
    """Another algorithm for the same key and signature."""
    _, claims, signature = thief.key.sign(thief.claims()).split(".")
    return f"{part({'alg': 'RS256', 'typ': 'at+jwt', 'kid': thief.key.kid})}.{claims}.{signature}"


MADE: dict[str, Callable[[Thief], str]] = {
    "no nbf": lambda t: t.key.sign(t.claims(nbf=None)),
    "no jti": lambda t: t.key.sign(t.claims(jti=None)),
    "no session": lambda t: t.key.sign(t.claims(sid=None)),
    "unknown session": lambda t: t.key.sign(t.claims(sid="0" * 32)),
    "session of another user": lambda t: t.key.sign(t.claims(sub=t.users.create("admin").id)),
    "session is a path": lambda t: t.key.sign(t.claims(sid="x:../users")),
    "session is a list": lambda t: t.key.sign(t.claims(sid=["x"])),
    "longer than any token": lambda t: t.key.sign(t.claims(exp=int(time.time()) + ACCESS_SECONDS + 60)),
    "refresh as access": lambda t: str(t.session["refresh_token"]),
    "refresh with dots": lambda t: str(t.session["refresh_token"]).replace("_", "."),
    "replay after logout": ended,
    "changed claims": lambda t: changed(str(t.session["access_token"]), t.claims(sub="root")),
    "another algorithm": relabelled,
    "kid of the published set's place": lambda t: t.key.sign(t.claims(), kid="/.well-known/jwks.json"),
}


def refusal(answer: httpx2.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    volatile = ("x-request-id", "date", "content-length")
    headers = {name: value for name, value in answer.headers.items() if name not in volatile}
    return answer.status_code, {**answer.json(), "request_id": ""}, headers


def count(api: Stack) -> int:
    """How many wrong credentials the metrics have counted."""
    text = api.client.get("/metrics").text
    rows = [
        line for line in text.splitlines() if line.startswith('mayfly_requests_refused_total{code="unauthenticated"')
    ]
    return int(float(rows[0].split()[-1])) if rows else 0


def test_every_wrong_token_is_one_and_the_same_401_and_an_event(api: Stack, thief: Thief) -> None:
    control = thief.key.sign(thief.claims())
    assert api.client.get(SUBMIT, headers=bearer(control)).status_code == 200, "the control: the thief's own token"
    before = count(api)
    expected = refusal(api.client.get(SUBMIT, headers=bearer("mfk_wrong")))
    assert (expected[0], expected[1]["code"]) == (401, "unauthenticated")
    wrong = {name: made(thief) for name, made in MADE.items()} | forged(thief.key, thief.claims)
    for name, token in wrong.items():
        assert refusal(api.client.get(SUBMIT, headers=bearer(token))) == expected, name
        assert Agent(api, headers=bearer(token)).request("tools/list").status_code == 401, name
    eventually(lambda: count(api) == before + 1 + 2 * len(wrong), "each is counted once")
    assert len(wrong) > 45
    log = {"type": "auth_failure", "limit": "200"}

    def counted() -> bool:
        items = api.client.get("/api/v1/security-events", params=log).json()["items"]
        return any(item["data"]["count"] >= 10 for item in items)

    eventually(counted, "wrong tokens are events, at 1, 10, 100")
    assert api.client.get(SUBMIT, headers=bearer(control)).status_code == 200


def test_each_wrong_token_alone_is_an_event(api: Stack, thief: Thief) -> None:
    """One attack within a minute is enough: the first of each minute is written."""
    tokens = [thief.key.sign(thief.claims(exp=int(time.time()) - 60)), ended(thief)]
    client = api.redis.client()
    for token in tokens:
        client.delete("mayfly:security:counts:auth_failure")
        before = client.xlen("mayfly:security")
        assert api.client.get(SUBMIT, headers=bearer(token)).status_code == 401
        eventually(lambda before=before: client.xlen("mayfly:security") > before, "an event")  # type: ignore[misc]
    client.close()
