"""Claims become a tenant and roles; tokens of other types count only where the issuer is configured so."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.identity.issuers.tokens import Accepted, InvalidToken, Key, principal_of, read, verified
from orchestrator.models.issuers import Issuer, value_of
from orchestrator.settings import Settings
from tests.builders.forged_tokens import part
from tests.builders.issuers import AUDIENCE, SigningKey
from tests.harness import ROOT

KEY = SigningKey("k")
URL = "https://login.example"
GOOD: dict[str, Any] = {"sub": "s", "tenant": "acme", "roles": ["r"], "groups": ["g"]}


def issuer(**changed: Any) -> Issuer:
    made = {
        "issuer": URL, "audience": AUDIENCE, "tenant_claim": "tenant", "roles": {"r": "developer"},
        "groups": {"g": "auditor"},
    }  # fmt: skip
    return Issuer.model_validate({**made, **changed})


def is_valid(token: str, **changed: Any) -> bool:
    try:
        return bool(verified(read(token), Key(("ES256",), KEY.private.public_key()), Accepted.of(issuer(**changed))))
    except InvalidToken:
        return False


def signed(type: str | None, **claims: Any) -> str:
    now = time.time()
    return KEY.sign({"iss": URL, "aud": AUDIENCE, "sub": "s", "iat": now, "exp": now + 60, **claims}, typ=type)


@pytest.mark.parametrize("type", ["at+jwt", "application/at+jwt", "AT+JWT"])
def test_access_tokens_by_type_count(type: str) -> None:
    assert is_valid(signed(type, nonce="n"))


@pytest.mark.parametrize("type", ["JWT", "jwt", None])
def test_plain_tokens_count_where_configured_unless_they_bear_other_marks(type: str | None) -> None:
    assert not is_valid(signed(type))
    assert is_valid(signed(type), plain_tokens=True)
    assert is_valid(signed(type, typ="Bearer"), plain_tokens=True)
    marks: list[dict[str, Any]] = [
        {"typ": "ID"}, {"typ": "Refresh"}, {"typ": "Offline"}, {"typ": "Logout"}, {"nonce": "n"}, {"at_hash": "h"},
        {"c_hash": "h"}, {"s_hash": "h"}, {"events": {}},
    ]  # fmt: skip
    for mark in marks:
        assert not is_valid(signed(type, **mark), plain_tokens=True), mark


@pytest.mark.parametrize("type", ["logout+jwt", "secevent+jwt", "dpop+jwt", "oauth-authz-req+jwt"])
def test_other_types_never_count(type: str) -> None:
    assert not is_valid(signed(type), plain_tokens=True)


@pytest.mark.parametrize("member", ["jkt", "x5t#S256"])
def test_token_that_is_bound_to_a_key_does_not_count_without_a_proof(member: str) -> None:
    """DPoP (RFC 9449) and mutual TLS (RFC 8705)."""
    assert not is_valid(signed("at+jwt", cnf={member: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}))


def test_token_of_another_issuer_is_refused_though_the_key_is_right() -> None:
    assert is_valid(signed("at+jwt"))
    assert not is_valid(signed("at+jwt"), issuer="https://other.example")


def test_an_algorithm_that_the_key_is_not_for_is_refused() -> None:
    token = read(signed("at+jwt"))
    with pytest.raises(InvalidToken, match="algorithm_of_another_key"):
        verified(token, Key(("ES384",), KEY.private.public_key()), Accepted.of(issuer()))


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "RS512", ["ES256"], None], ids=repr)
def test_algorithm_outside_the_list_is_refused_before_its_key_is_looked_for(algorithm: Any) -> None:
    header = part({"alg": algorithm, "typ": "at+jwt", "kid": "unknown"})
    with pytest.raises(InvalidToken, match=r"^algorithm$"):
        read(f"{header}.{part({'iss': URL})}.x")


def test_claims_become_principal_tenant_and_listed_roles() -> None:
    found = principal_of({**GOOD, "roles": ["r", "admin"], "groups": "g"}, issuer())
    assert (found.id, found.key_id, found.tenant) == (f"oidc:{URL}#s", None, "acme")
    assert found.roles == {"developer", "auditor"}, "admin is no role of the token's, as no value of it is listed"
    assert "admin" not in found.scopes
    assert principal_of({"sub": "s"}, issuer(tenant_claim=None, tenant="fixed")).tenant == "fixed"
    assert principal_of({**GOOD, "groups": {"x": 1}}, issuer(groups={})).roles == {"developer"}


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant": None}, {"tenant": 5}, {"tenant": ["acme"]}, {"tenant": ""}, {"tenant": "Acme"}, {"tenant": "a/b"},
        {"tenant": "acme\n"}, {"tenant": "x" * 64}, {"sub": ""}, {"sub": 5}, {"sub": "x" * 256}, {"sub": "a\nb"},
        {"roles": 5}, {"roles": {"r": 1}}, {"roles": ["r", 5]}, {"roles": ["x"] * 1001}, {"groups": [["g"]]},
        {"scope": 5}, {"scope": {"mcp": True}}, {"scp": ["mcp", 5]},
    ],
)  # fmt: skip
def test_claims_of_another_type_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        principal_of({**GOOD, **changed}, issuer())


@pytest.mark.parametrize(
    ("claims", "role", "scopes"),
    [
        ({"scope": "openid executions:read"}, "developer", {"executions:read"}),
        ({"scp": ["mcp", "executions:read", "audit:read"]}, "developer", {"mcp", "executions:read"}),
        ({"scope": "executions:read"}, "admin", {"executions:read"}),
        ({"scope": "admin"}, "developer", set()),
        ({"scope": "worker"}, "admin", set()),
        ({"scope": "worker mcp"}, "admin", {"mcp"}),
        ({"scope": "audit:read"}, "developer", set()),
        ({"scope": "openid profile"}, "auditor", {"security:read", "audit:read"}),
        ({}, "auditor", {"security:read", "audit:read"}),
    ],
)
def test_scope_claim_narrows_the_scopes_of_roles(claims: dict[str, Any], role: str, scopes: set[str]) -> None:
    assert principal_of({**GOOD, **claims}, issuer(roles={"r": role}, groups={})).scopes == scopes


def test_issuers_tokens_create_the_tenants_that_the_operator_named() -> None:
    assert principal_of(GOOD, issuer(create_tenants=True)).may_create_tenant
    assert principal_of(GOOD, issuer(tenants=["acme"])).may_create_tenant
    assert principal_of({"sub": "s"}, issuer(tenant_claim=None, tenant="fixed")).may_create_tenant
    assert not principal_of(GOOD, issuer()).may_create_tenant


# Claims as a CI system and Kubernetes put them into tokens of jobs and service accounts; docs/login.md has both tables.
MACHINES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "CI system": (
        {
            "sub": "repo:acme/app:ref:refs/heads/main", "repository": "acme/app", "repository_owner": "acme",
            "ref": "refs/heads/main", "event_name": "push", "jti": "x",
        },
        {"tenant_claim": "repository_owner", "roles_claim": "repository", "roles": {"acme/app": "developer"}},
    ),
    "Kubernetes": (
        {
            "sub": "system:serviceaccount:acme:builder", "aud": ["mayfly"],
            "kubernetes.io": {"namespace": "acme", "serviceaccount": {"name": "builder", "uid": "u"}},
        },
        {
            "tenant_claim": "/kubernetes.io/namespace", "roles_claim": "sub",
            "roles": {"system:serviceaccount:acme:builder": "developer"},
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MACHINES)
def test_tokens_of_machines_have_tenant_and_role(kind: str) -> None:
    claims, table = MACHINES[kind]
    configured = issuer(**table, audience="mayfly", plain_tokens=True)
    token = signed("JWT" if kind == "CI system" else None, **{"aud": "mayfly", **claims})
    key = Key(("ES256",), KEY.private.public_key())
    found = principal_of(verified(read(token), key, Accepted.of(configured)), configured)
    assert (found.id, found.tenant, found.roles) == (f"oidc:{URL}#{claims['sub']}", "acme", frozenset({"developer"}))


def test_issuer_is_bound_to_its_tenants() -> None:
    assert principal_of(GOOD, issuer(tenants=["acme"])).tenant == "acme"
    with pytest.raises(InvalidToken, match="tenant_not_of_issuer"):
        principal_of(GOOD, issuer(tenants=["other"]))


def test_claims_are_found_by_name_or_json_pointer() -> None:
    claims = {"a": {"b/c": {"d~e": 1}}, "https://x/y": 2, "a.b": 3}
    assert value_of(claims, "/a/b~1c/d~0e") == 1
    assert value_of(claims, "https://x/y") == 2
    assert value_of(claims, "a.b") == 3
    assert value_of(claims, "/a/none/d") is None
    assert value_of(claims, "/a.b/c") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "http://login.example"}, {"issuer": "https://u@login.example"}, {"issuer": "https://x/?a=b"},
        {"issuer": "ftp://127.0.0.1"}, {"tenant": "both"}, {"tenant_claim": None}, {"roles": {"r": "root"}},
        {"audience": ""}, {"audiences": ["x"]},
    ],
)  # fmt: skip
def test_settings_of_an_issuer_are_checked(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        issuer(**changed)


def test_issuers_come_from_the_setting_and_the_documented_file(tmp_path: Any) -> None:
    text = (ROOT / "docs" / "login.md").read_text().split("```toml\n")[1].split("```")[0]
    (tmp_path / "issuers.toml").write_text(text)
    settings = Settings(issuers=[issuer()], issuers_file=tmp_path / "issuers.toml")
    assert [found.issuer for found in settings.all_issuers()] == [URL, "https://login.example.com/realms/acme"]
    assert settings.all_issuers()[1].roles == {"mayfly-users": "developer", "sre": "operator"}
