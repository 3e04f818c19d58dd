"""Access tokens of a second real OIDC issuer, Canaille, which marks neither access tokens nor ID tokens by a type.

The settings have one of its two issuers; an administrator declares the other while Mayfly runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from orchestrator.identity.issuers.key_sets import PAUSE_SECONDS
from orchestrator.store import keys
from tests.agents.installed import canaille_program
from tests.harness import Process, Stack, bearer, eventually, free_port

SUBMIT, ISSUERS = "/api/v1/executions", "/api/v1/issuers"
PROGRAM = {"environment": "python", "code": "1"}
BACK = "http://127.0.0.1/back"
SCOPE = "openid profile groups"
AUDIENCE = "mayfly"
USERS = {
    "dev": {"tenant": "t-oidc", "group": "builders"},
    "ops": {"tenant": "t-oidc", "group": "on-call"},
    "homeless": {"tenant": None, "group": "others"},
    "traveller": {"tenant": "../t", "group": "travellers"},
    "foreign": {"tenant": "t-else", "group": "strangers"},
}
COMMON = {
    "audience": AUDIENCE, "plain_tokens": True, "tenants": ["t-oidc"], "groups_claim": "groups",
    "groups": {"builders": "developer", "on-call": "operator"},
}  # fmt: skip
CLIENTS = {AUDIENCE: AUDIENCE, "cli": AUDIENCE, "other": "other"}  # and the audience of each one's tokens


def new_key(kid: str) -> dict[str, Any]:
    private = rsa.generate_private_key(65537, 2048)
    made: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(private, as_dict=True)
    return {name: value for name, value in made.items() if name != "key_ops"} | {"kid": kid, "alg": "RS256"}


class Canaille:
    """The provider as a process. It has an issuer for each name of its host: 127.0.0.1 and localhost."""

    def __init__(self, directory: Path) -> None:
        self.port, self._log = free_port(), directory / "canaille.log"
        self.keys = [new_key("c1")]
        self._process: Process | None = None

    def issuer(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/"

    def start(self) -> None:
        given = {"port": self.port, "keys": self.keys, "users": USERS, "clients": CLIENTS, "back": BACK}
        self._process = Process([*canaille_program(), json.dumps(given)], {}, self._log)
        eventually(self._answers, "the issuer answers", 60)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def rotate(self) -> None:
        """Sign by a new key; the old one stays in the key set."""
        self.stop()
        self.keys.insert(0, new_key(f"c{len(self.keys) + 1}"))
        self.start()

    def access_token(self, user: str, client: str = "cli", host: str = "127.0.0.1") -> str:
        data = {"grant_type": "password", "username": user, "password": f"secret-of-{user}", "scope": SCOPE}
        found: str = self._token(client, host, data)["access_token"]
        return found

    def signed_in(self, user: str, client: str = "cli") -> dict[str, Any]:
        """The tokens of a user who signs in as in a browser: page by page, to a code and its exchange."""
        asked = {"response_type": "code", "client_id": client, "redirect_uri": BACK, "scope": SCOPE, "nonce": "n"}
        with httpx2.Client(base_url=self.issuer(), timeout=60) as browser:
            answer = browser.get("oauth/authorize", params=asked)
            fields = iter([{"login": user}, {"password": f"secret-of-{user}"}])
            while "code" not in (found := parse_qs(urlsplit(answer.headers.get("location", "")).query)):
                if answer.is_redirect:
                    answer = browser.get(answer.headers["location"])
                else:
                    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', answer.text)
                    assert token, answer.text
                    answer = browser.post(answer.url, data={"csrf_token": token[1], **next(fields)})
        return self._token(
            client,
            "127.0.0.1",
            {"grant_type": "authorization_code", "code": found["code"][0], "redirect_uri": BACK},
        )

    def _token(self, client: str, host: str, data: dict[str, str]) -> dict[str, Any]:
        credentials = (client, f"secret-of-{client}")
        answer = httpx2.post(f"{self.issuer(host)}oauth/token", data=data, auth=credentials, timeout=60)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.issuer()}.well-known/openid-configuration").status_code == 200
        except httpx2.TransportError:
            return False


@pytest.fixture(scope="module")
def canaille(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaille]:
    made = Canaille(tmp_path_factory.mktemp("canaille"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def api_settings(canaille: Canaille) -> dict[str, Any]:
    return {"issuers": [{**COMMON, "issuer": canaille.issuer("localhost"), "tenant_claim": "groups"}]}  # a list


@pytest.fixture(scope="module")
def api(api: Stack, canaille: Canaille) -> Stack:
    declare(api, canaille)
    return api


def declare(api: Stack, canaille: Canaille, **changed: Any) -> dict[str, Any]:
    wanted = {**COMMON, "issuer": canaille.issuer(), "tenant_claim": "preferred_username", **changed}
    answer = api.client.put(ISSUERS, json=wanted)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def status(api: Stack, token: str) -> int:
    return api.client.get(SUBMIT, headers=bearer(token)).status_code


def test_access_token_has_its_users_tenant_and_role(api: Stack, canaille: Canaille) -> None:
    token = canaille.access_token("dev")
    assert jwt.get_unverified_header(token)["typ"] == "JWT"
    queued = api.client.post(SUBMIT, json=PROGRAM, headers=bearer(token))
    assert queued.status_code == 202, queued.text
    found = queued.json()
    assert (found["principal"], found["tenant"]) == (f"oidc:{canaille.issuer()}#dev", "t-oidc")
    operator = bearer(canaille.access_token("ops"))
    assert api.client.get("/api/v1/workers", headers=operator).status_code == 200
    assert api.client.post(SUBMIT, json=PROGRAM, headers=operator).status_code == 403


def test_id_token_of_a_sign_in_is_refused_and_its_access_token_is_taken(api: Stack, canaille: Canaille) -> None:
    found = canaille.signed_in("dev")
    claims = jwt.decode(found["id_token"], options={"verify_signature": False})
    access = jwt.decode(found["access_token"], options={"verify_signature": False})
    assert (claims["aud"], claims["sub"]) == (access["aud"], access["sub"]), "they differ by marks alone"
    assert jwt.get_unverified_header(found["id_token"]) == jwt.get_unverified_header(found["access_token"])
    assert status(api, found["access_token"]) == 200
    assert status(api, found["id_token"]) == 401


@pytest.mark.parametrize(
    ("user", "client", "host"),
    [
        pytest.param("dev", "other", "127.0.0.1", id="wrong audience"),
        pytest.param("homeless", "cli", "127.0.0.1", id="no tenant"),
        pytest.param("traveller", "cli", "127.0.0.1", id="tenant is a path"),
        pytest.param("foreign", "cli", "127.0.0.1", id="tenant is not the issuer's"),
        pytest.param("dev", "cli", "localhost", id="tenant is a list"),
    ],
)
def test_wrong_token_is_refused(api: Stack, canaille: Canaille, user: str, client: str, host: str) -> None:
    answer = api.client.get(SUBMIT, headers=bearer(canaille.access_token(user, client, host)))
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_declared_issuer_is_listed_once_and_changes_are_audited(api: Stack, canaille: Canaille) -> None:
    made = declare(api, canaille)
    assert declare(api, canaille) == made, "a repeated request changes nothing"
    listed: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.client.get(ISSUERS, params={"limit": 1, **({"cursor": cursor} if cursor else {})}).json()
        listed, cursor = listed + page["items"], page["next_cursor"]
    own, settings = listed
    assert (own, own["in_settings"], settings["in_settings"]) == (made, False, True)
    assert api.client.get(f"{ISSUERS}/{made['id']}").json() == made
    refused = [
        api.client.delete(f"{ISSUERS}/{settings['id']}"),
        api.client.put(ISSUERS, json={**COMMON, "issuer": settings["issuer"], "tenant": "t"}),
        api.client.put(ISSUERS, json={"issuer": "http://login.example", "audience": "a", "tenant": "t"}),
        api.client.delete(f"{ISSUERS}/unknown"),
        api.client.get(f"{ISSUERS}/unknown"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [
        (409, "issuer_in_settings"), (409, "issuer_in_settings"), (422, "validation_failed"), (404, "not_found"),
        (404, "not_found"),
    ]  # fmt: skip
    assert audited(api, made["id"]) == ["issuer.declare"]


def audited(api: Stack, id: str) -> list[str]:
    items = api.client.get("/api/v1/audit", params={"limit": 1000}).json()["items"]
    return [item["action"] for item in items if item.get("resource") == f"issuer/{id}"]


def test_changed_or_removed_issuer_counts_with_the_next_request(api: Stack, canaille: Canaille) -> None:
    token = canaille.access_token("dev")
    assert status(api, token) == 200
    made = declare(api, canaille, groups={})
    assert status(api, token) == 403, "it has no role any more"
    assert api.client.delete(f"{ISSUERS}/{made['id']}").status_code == 204
    assert status(api, token) == 401
    with closing(api.redis.client()) as redis:
        forged = json.dumps(
            {**COMMON, "issuer": canaille.issuer(), "tenant": "t-oidc", "groups": {"builders": "admin"}}
        )
        for stored in (forged, f"{'0' * 64} {forged}"):
            redis.hset(keys.ISSUERS, made["id"], stored)
            assert status(api, token) == 401, "a client of Redis declares no issuer"
        redis.hdel(keys.ISSUERS, made["id"])
    declare(api, canaille)
    assert status(api, token) == 200
    assert audited(api, made["id"])[-3:] == ["issuer.declare", "issuer.remove", "issuer.declare"]


def test_agents_learn_of_a_declared_issuer(api: Stack, canaille: Canaille) -> None:
    found = api.client.get("/.well-known/oauth-protected-resource/mcp").json()
    assert canaille.issuer() in found["authorization_servers"]


def test_known_keys_continue_while_the_issuer_is_down(api: Stack, canaille: Canaille) -> None:
    token = canaille.access_token("dev")
    assert status(api, token) == 200
    canaille.stop()
    assert status(api, token) == 200
    canaille.start()


@pytest.mark.complete  # most of a minute's wait; tests/unit/orchestrator/identity/test_key_sets.py has no wait
def test_new_key_of_the_issuer_counts_within_a_minute_and_the_old_one_goes_on(api: Stack, canaille: Canaille) -> None:
    old = canaille.access_token("dev")
    assert status(api, old) == 200
    canaille.rotate()
    new = canaille.access_token("dev")
    kids = {jwt.get_unverified_header(token)["kid"] for token in (old, new)}
    assert len(kids) == 2
    eventually(lambda: status(api, new) == 200, "the new key is fetched", PAUSE_SECONDS + 60)
    assert status(api, old) == 200
