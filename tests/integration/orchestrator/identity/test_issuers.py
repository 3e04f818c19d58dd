"""Access tokens of a real OIDC issuer: what they give, and that every wrong token is one and the same 401."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import takewhile
from typing import Any, NamedTuple

import httpx2
import jwt
import pytest

from orchestrator.store import keys
from tests.builders.forged_tokens import changed, forged
from tests.builders.issuers import AUDIENCE, RealIssuer, SigningKey
from tests.builders.mcp_calls import Agent
from tests.builders.people.own_users import OwnUsers
from tests.harness import Stack, bearer, eventually, logged

SUBMIT = "/api/v1/executions"
PROGRAM = {"environment": "python", "code": "1"}
KEY = SigningKey("k1")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealIssuer]:
    made = RealIssuer(tmp_path_factory.mktemp("issuer"))
    made.start(KEY)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def api_settings(issuer: RealIssuer) -> dict[str, Any]:
    return {"issuers": [issuer.settings]}


def test_access_token_is_taken_on_rest_and_by_agents_and_named_on_the_record(api: Stack, issuer: RealIssuer) -> None:
    token = issuer.access_token("dev")
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    queued = api.client.post(SUBMIT, json=PROGRAM, headers=bearer(token))
    assert queued.status_code == 202, queued.text
    found = queued.json()
    assert (found["principal"], found["key_id"]) == (f"oidc:{issuer.url}#dev", None)
    assert found["tenant"] == "t-oidc"
    assert api.client.get(f"{SUBMIT}/{found['id']}", headers=bearer(token)).status_code == 200
    agent = Agent(api, headers=bearer(token))
    called = agent.call("get_execution", execution_id=found["id"], wait_seconds=0)
    assert called["structuredContent"]["state"] == "queued"
    assert api.client.get(f"{SUBMIT}/{found['id']}").json()["principal"] == f"oidc:{issuer.url}#dev", (
        "an operator sees it"
    )


def test_roles_come_from_the_claim_as_the_operator_lists_them(api: Stack, issuer: RealIssuer) -> None:
    statuses = {}
    for client in ("dev", "ops", "none"):
        headers = bearer(issuer.access_token(client))
        answers = [
            api.client.post(SUBMIT, json=PROGRAM, headers=headers),
            api.client.get("/api/v1/workers", headers=headers),
            api.client.get("/api/v1/api-keys", headers=headers),
        ]
        statuses[client] = [answer.status_code for answer in answers]
    assert statuses == {"dev": [202, 403, 403], "ops": [403, 200, 403], "none": [403, 403, 403]}


# Wrong tokens that the issuer itself makes, and some beside the forged tokens of the builder.
MADE: dict[str, Callable[[RealIssuer], str]] = {
    "wrong audience": lambda i: i.access_token("dev", resource="https://other.example"),
    "ID token": lambda i: str(i.token("dev", "urn:test:id-token")["id_token"]),
    "no tenant": lambda i: i.access_token("homeless"),
    "tenant is a number": lambda i: i.access_token("numbered"),
    "tenant is a path": lambda i: i.access_token("traveller"),
    "roles are an object": lambda i: i.access_token("tangled"),
    "changed claims": lambda i: changed(i.access_token("dev"), i.claims(sub="root")),
    "five parts": lambda i: i.access_token("dev") + ".x.y",
    "unknown API key": lambda i: "mfk_unknown",
}


def refusal(answer: httpx2.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    volatile = ("x-request-id", "date", "content-length")
    headers = {name: value for name, value in answer.headers.items() if name not in volatile}
    return answer.status_code, {**answer.json(), "request_id": ""}, headers


def test_every_wrong_token_is_one_and_the_same_401_and_an_event(api: Stack, issuer: RealIssuer) -> None:
    assert api.client.get(SUBMIT, headers=bearer(KEY.sign(issuer.claims()))).status_code == 200, "the control"
    expected = refusal(api.client.get(SUBMIT, headers=bearer("mfk_wrong")))
    assert (expected[0], expected[1]["code"]) == (401, "unauthenticated")
    wrong = {name: made(issuer) for name, made in MADE.items()} | forged(KEY, issuer.claims)
    for name, token in wrong.items():
        assert refusal(api.client.get(SUBMIT, headers=bearer(token))) == expected, name
        agent = Agent(api, headers=bearer(token)).request("tools/list")
        assert agent.status_code == 401, name
    log = {"type": "auth_failure"}

    def most() -> int:
        items = api.client.get("/api/v1/security-events", params=log).json()["items"]
        return max((event["data"]["count"] for event in items), default=0)

    eventually(lambda: most() >= 10, "wrong tokens are events, at 1, 10, 100")
    assert api.client.get(SUBMIT, headers=bearer(KEY.sign(issuer.claims()))).status_code == 200


def test_known_keys_stay_valid_while_the_issuer_is_down(api: Stack, issuer: RealIssuer) -> None:
    token = issuer.access_token("dev")
    issuer.stop()
    assert api.client.get(SUBMIT, headers=bearer(token)).status_code == 200
    assert api.client.get(SUBMIT, headers=bearer(KEY.sign(issuer.claims(), kid="k2"))).status_code == 401
    issuer.start(KEY)
    assert AUDIENCE in str(jwt.decode(issuer.access_token("dev"), options={"verify_signature": False}))
    assert eventually(
        lambda: api.client.get(SUBMIT, headers=bearer(token)).status_code == 200, "the token counts again"
    )


class Credential(NamedTuple):
    """The token of a caller, its tenant, and its key in Redis; ``None`` for the token of an issuer."""

    token: str
    tenant: str
    key: str | None = None


KINDS = ("key", "own user", "issuer")


def credential(api: Stack, issuer: RealIssuer, kind: str) -> Credential:
    tenant = f"t-{secrets.token_hex(6)}"
    if kind == "key":
        token = api.new_key("mcp", "executions:read", tenant=tenant)["secret"]
        return Credential(token, tenant, keys.api_key(hashlib.sha256(token.encode()).hexdigest()))
    if kind == "own user":
        users = OwnUsers(api)
        token = users.session(users.create("developer", tenant=tenant))["access_token"]
        session = jwt.decode(token, options={"verify_signature": False})["sid"]
        return Credential(token, tenant, keys.session(session))
    return Credential(issuer.access_token("dev"), "t-oidc")


@pytest.mark.parametrize("kind", KINDS)
def test_caller_and_its_tenant_are_looked_up_in_one_round_trip(api: Stack, issuer: RealIssuer, kind: str) -> None:
    caller = credential(api, issuer, kind)
    agent = Agent(api, headers=bearer(caller.token))
    assert agent.request("tools/list").status_code == 200, "the first request makes the issuer's tenant"
    last = secrets.token_hex(8)
    client: Any = api.redis.client()
    with closing(client), client.monitor() as monitor:
        for _ in range(5):
            assert agent.request("tools/list").status_code == 200
        client.echo(last)
        seen = list(takewhile(lambda found: last not in found["command"], monitor.listen()))
    sent = [found["command"] for found in seen if found["client_type"] != "lua"]
    looked_up = [f"{keys.TENANTS} {caller.tenant}", *filter(None, [caller.key])]
    about = [command for command in sent if any(words in command for words in looked_up)]
    assert len(about) == 5, about


def test_accepted_credentials_are_logged(api: Stack, issuer: RealIssuer) -> None:
    for kind, name in zip(KINDS, ("key", "user", "oidc"), strict=True):
        caller = credential(api, issuer, kind)
        id = api.client.post(SUBMIT, json=PROGRAM, headers=bearer(caller.token)).json().get("principal")
        assert api.client.get(SUBMIT, headers=bearer(caller.token)).status_code == 200
        lines = [line for line in logged(api.directory / "api.log") if line["event"] == "credential.accepted"]
        found = [line for line in lines if line["tenant"] == caller.tenant]
        assert {(line["kind"], line["address"]) for line in found} == {(name, "127.0.0.1")}, kind
        assert id is None or id in {line["principal"] for line in found}


@pytest.mark.parametrize("kind", KINDS)
def test_state_of_the_tenant_counts_with_the_next_request(api: Stack, issuer: RealIssuer, kind: str) -> None:
    caller = credential(api, issuer, kind)
    agent, path = Agent(api, headers=bearer(caller.token)), f"/api/v1/tenants/{caller.tenant}"

    def statuses() -> list[int]:
        rest = api.client.get(SUBMIT, headers=bearer(caller.token))
        return [rest.status_code, agent.request("tools/list").status_code]

    assert statuses() == [200, 200]
    for state, status in (("disabled", 403), ("active", 200)):
        assert api.client.patch(path, json={"state": state}).status_code == 200
        assert statuses() == [status, status]
    if kind != "issuer":  # whose tenant is that of the other tests
        assert api.client.delete(path).is_success
        assert statuses() == [401, 401]
