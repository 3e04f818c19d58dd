"""The served OpenAPI document as each role and each scope: no server error, no answer outside the document, and no
access outside the table of actions.
"""

from __future__ import annotations

import json
import secrets
from functools import cache
from typing import Any, NamedTuple

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from orchestrator.identity import SCOPES
from orchestrator.identity.authorization import ACTIONS, ROLES, ROUTES, Action
from tests.harness import PATIENCE, Stack

SUBMIT = "/api/v1/executions"
MANY = 100  # examples of a control, of which some meet what they are to find
FUZZ = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
CALLERS = {role: tuple(sorted(scopes)) for role, scopes in ROLES.items()} | {
    scope: (scope,) for scope in SCOPES if scope != "admin"
}
USUAL = "developer"
PARTLY_AWAY = {"/readyz", "/api/v1/tools/{server}/{tool}/calls"}  # 503 without a worker and without a broker
HELD = frozenset({"stdout", "stderr", "results", "artifacts", "compile"})  # of an execution, which metadata leaves out


class Resources(NamedTuple):
    """An ended execution of a tenant, and a label of it that stands nowhere else."""

    tenant: str
    id: str
    mark: str


class Caller(NamedTuple):
    """A key of tenant ``own``, and the actions that it should have."""

    key: str
    scopes: frozenset[str]
    table: dict[str, Action]

    def may(self, action: str, column: str) -> bool:
        """Whether the table gives the action, ``own`` or ``every``; written anew, apart from the code it judges."""
        needed = getattr(self.table[action], column)
        alternatives = [set(both.split(" & ")) for both in needed.split(" | ")] if needed else []
        return any(both <= self.scopes or ("admin" in self.scopes and both != {"worker"}) for both in alternatives)


@pytest.fixture(scope="module")
def api_settings() -> dict[str, Any]:
    return {"queue_limit": 1_000_000}


def made(api: Stack, tenant: str) -> Resources:
    tenant = f"{tenant}-{secrets.token_hex(6)}"  # which no example has: administrators delete tenants
    headers, mark = api.headers_of(tenant, "executions:write"), f"mark-of-{tenant}"
    body = {"environment": "python", "code": "1", "labels": {"mark": mark}}
    id = api.client.post(SUBMIT, json=body, headers=headers).json()["id"]
    assert api.client.post(f"{SUBMIT}/{id}/cancel", headers=headers).status_code == 202
    return Resources(tenant, id, mark)


@pytest.fixture(scope="module")
def own(api: Stack) -> Resources:
    return made(api, "own")


@pytest.fixture(scope="module")
def foreign(api: Stack) -> Resources:
    return made(api, "foreign")


@cache
def operations(url: str) -> list[tuple[Any, st.SearchStrategy[Any], st.SearchStrategy[Any]]]:
    """The operations of the document, each with data that it allows and data that it forbids: all callers share what
    is made ready for them.
    """
    found = []
    for one in schemathesis.openapi.from_url(f"{url}/openapi.json", timeout=120).get_all_operations():
        assert isinstance(one, Ok), one
        operation = one.ok()
        good, bad = (operation.as_strategy(mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE))
        found.append((operation, good, bad))
    return found


def access_outside(
    caller: Caller, route: str, status: int, text: str, target: Resources | None, other: Resources
) -> str:
    """The mistakes of an answer, in words; empty without a mistake. ``target``: whose id the request has."""
    action = ROUTES.get(route)
    if action is None:
        return ""
    here, everywhere = caller.may(action, "own"), caller.may(action, "every")
    if status < 400 and not (here or everywhere):
        return f"{action} is not the caller's, and was answered with {status}"
    if status < 400 and target == other and not everywhere:
        return f"{action} of another tenant is not the caller's, and was answered with {status}"
    if other.mark in text and not everywhere:
        return f"{action} shows another tenant's data"
    if status < 400 and target == other and caller.table[action].metadata:
        shown = {name for name in HELD if json.loads(text).get(name)}
        return f"{action} shows {sorted(shown)} of another tenant" if shown else ""
    return ""


def try_operations(
    api: Stack, caller: Caller, own: Resources, other: Resources, only: str = "", examples: int | None = None
) -> set[str]:
    """Send data that the document allows and data that it forbids to each operation; give back their routes."""
    url = api.env["MAYFLY_URL"]
    tried = set()
    for operation, good, bad in operations(url):
        route = f"{operation.method.upper()} {operation.path}"
        if only and route != only:
            continue
        tried.add(route)
        action = ROUTES.get(route)
        allowed = action is None or caller.may(action, "own") or caller.may(action, "every")
        drawn, many = (good | bad, 4) if allowed else (good, 2)
        plan: list[tuple[st.SearchStrategy[Any], int, Resources | None]] = [(drawn, many, None)]
        if "{id}" in operation.path and operation.method.upper() != "DELETE":  # each of these ids, whatever is drawn
            plan = [(good, 1, other), (good, 1, own), (drawn, many // 2, None)]

        for cases, count, target in plan:

            @settings(FUZZ, max_examples=examples or count)
            @given(case=cases, target=st.just(target))
            def send(case: Any, target: Resources | None) -> None:
                path = case.path
                if target is not None:
                    case.path_parameters["id"] = target.tenant if "/tenants/" in path else target.id
                if case.method == "DELETE" and case.path_parameters.get("id") == "-":
                    return  # a deleted tenant would have all further requests refused
                if case.method == "PATCH" and isinstance(case.body, dict):
                    case.body.pop("state", None)  # a disabled tenant would have all further requests refused
                case.headers.pop(
                    "Prefer", None
                )  # it could hold the test up for a minute, as could the wait for an event
                if path == "/api/v1/security-events" and isinstance(case.query, dict):
                    case.query.pop("wait", None)
                answer = case.call(
                    base_url=url, headers={"Authorization": f"Bearer {caller.key}"}, timeout=60 * PATIENCE
                )
                if not (path in PARTLY_AWAY and answer.status_code == 503):
                    case.validate_response(answer, checks=CHECKS)
                sent = f"{case.method.upper()} {path}"
                wrong = access_outside(caller, sent, answer.status_code, answer.text, target, other)
                assert not wrong, wrong

            send()
    return tried


def caller_of(api: Stack, tenant: str, scopes: tuple[str, ...], table: dict[str, Action] = ACTIONS) -> Caller:
    return Caller(api.new_key(*scopes, tenant=tenant)["secret"], frozenset(scopes), table)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == USUAL else pytest.mark.thorough) for name in CALLERS]
)
def test_no_caller_breaks_the_api_or_leaves_the_table(
    api: Stack, own: Resources, foreign: Resources, name: str
) -> None:
    tried = try_operations(api, caller_of(api, own.tenant, CALLERS[name]), own, foreign)
    assert {route for route in ROUTES if "/mcp" not in route and "/metrics" not in route} <= tried
    assert api.client.get("/livez").status_code == 200


def test_action_that_the_table_does_not_give_is_found(api: Stack, own: Resources, foreign: Resources) -> None:
    """The control: judged by a table without the scope, a served route leaks."""
    stricter = ACTIONS | {"execution.list": ACTIONS["execution.list"]._replace(own="admin")}
    caller = caller_of(api, own.tenant, ("executions:read",), stricter)
    with pytest.raises(AssertionError, match="is not the caller's"):
        try_operations(api, caller, own, foreign, f"GET {SUBMIT}", MANY)


def test_data_of_another_tenant_is_found(api: Stack, foreign: Resources) -> None:
    """The control: the caller's own execution, taken for another tenant's, is a leak."""
    own = made(api, "untouched")  # by the callers before
    caller = caller_of(api, own.tenant, ("executions:read",))
    with pytest.raises(AssertionError, match="another tenant"):
        try_operations(api, caller, foreign, own, f"GET {SUBMIT}/{{id}}", MANY)
    with pytest.raises(AssertionError, match="another tenant's data"):
        try_operations(api, caller, foreign, own, f"GET {SUBMIT}", MANY)
