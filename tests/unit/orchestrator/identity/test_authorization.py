"""The table of actions: what each role may do, in words that a change of the table has to change here, too."""

from __future__ import annotations

import pytest

from orchestrator.errors import Forbidden, MayflyError, NotFound
from orchestrator.identity import SCOPES, Principal
from orchestrator.identity.authorization import ACTIONS, AGENTS, ROLES, ROUTES, authorize, reach
from orchestrator.identity.authorization_page import reference
from tests.harness import ROOT

# Of each action, by role: own tenant's / every tenant's; w whole, m metadata, - refused.
EXPECTED = {
    #                              admin operator developer auditor tenant_admin
    "execution.submit":            "w- -- w- -- --",
    "execution.submit_and_read":   "w- -- w- -- --",
    "execution.list":              "wm mm w- -- --",
    "execution.read":              "wm mm w- -- --",
    "execution.output":            "w- -- w- -- --",
    "execution.events":            "ww ww w- w- w-",
    "execution.cancel":            "wm mm w- -- --",
    "execution.change":            "w- -- w- -- --",
    "blob.upload":                 "w- -- w- -- --",
    "transfer.read":               "-- -- -- -- --",
    "transfer.write":              "-- -- -- -- --",
    "environment.list":            "ww ww ww -- --",
    "tool.read":                   "ww -- w- -- --",
    "tool.call":                   "w- -- w- -- --",
    "tool_server.change":          "ww -- -- -- --",
    "audit.read":                  "ww -- -- w- w-",
    "audit.verify":                "ww -- -- -- --",
    "security.read":               "ww ww -- w- w-",
    "fleet.read":                  "ww ww -- -- --",
    "switch.read":                 "ww ww -- -- --",
    "switch.change":               "ww ww -- -- --",
    "fleet.drain":                 "ww ww -- -- --",
    "key.read":                    "ww -- -- -- w-",
    "key.change":                  "ww -- -- -- w-",
    "tenant.read":                 "ww -- w- -- w-",
    "tenant.change":               "ww -- -- -- --",
    "user.read":                   "ww -- -- -- --",
    "user.change":                 "ww -- -- -- --",
    "issuer.read":                 "ww -- -- -- --",
    "issuer.change":               "ww -- -- -- --",
    "service_account.read":        "ww -- -- -- w-",
    "service_account.change":      "ww -- -- -- w-",
    "metrics.read":                "ww ww -- -- --",
    "agent.connect":               "w- -- w- -- --",
}  # fmt: skip


def principal(*scopes: str) -> Principal:
    return Principal(id="key:x", key_id="x", tenant="own", scopes=frozenset(scopes))


def shown(caller: Principal, action: str, tenant: str) -> str:
    try:
        return authorize(caller, action, tenant)[0]
    except MayflyError:
        return "-"


@pytest.mark.parametrize("action", ACTIONS)
def test_table_gives_each_role_the_expected_actions(action: str) -> None:
    found = [
        shown(principal(*scopes), action, "own") + shown(principal(*scopes), action, "other")
        for scopes in ROLES.values()
    ]
    assert " ".join(found) == EXPECTED[action]


def test_every_scope_of_a_role_exists_and_each_scope_but_later_ones_has_an_action() -> None:
    named = {word for action in ACTIONS.values() for word in f"{action.own} {action.every}".split() if word not in "|&"}
    assert named | {"audit:read"} == set(SCOPES)
    assert frozenset().union(*ROLES.values()) | {"worker"} == set(SCOPES), "of keys alone"
    assert len(ROUTES) == sum(len(action.routes) for action in ACTIONS.values()), "a route stands in two rows"
    assert len(AGENTS) == sum(len(action.agents) for action in ACTIONS.values()), "a method stands in two rows"


def test_another_tenants_resource_is_answered_as_a_missing_one_and_names_its_owner_for_the_log_alone() -> None:
    with pytest.raises(NotFound) as refused:
        authorize(principal("executions:read"), "execution.read", "other", "execution 'x'")
    assert refused.value.message == "There is no execution 'x'."
    assert refused.value.owner == "other"
    with pytest.raises(Forbidden, match="needs the scope fleet:read;") as named:
        authorize(principal("executions:read"), "execution.list", "other")
    assert named.value.owner == "other"
    for tenant in (None, "own"):
        with pytest.raises(Forbidden, match="needs the scope executions:read or fleet:read;") as plain:
            authorize(principal("mcp"), "execution.list", tenant)
        assert plain.value.owner is None


def test_look_ups_reach_other_tenants_only_where_the_action_does() -> None:
    assert reach(principal("executions:read", "fleet:write"), "execution.read") == "own"
    assert reach(principal("fleet:read"), "execution.read") is None
    assert reach(principal("admin"), "execution.output") == "own"
    assert reach(principal("fleet:read"), "security.read") == "own", "both scopes are needed"
    assert reach(principal("fleet:read", "security:read"), "security.read") is None


def test_get_reads_alone() -> None:
    """By the actions' names: a link or an image of another site, which a browser fetches by GET, changes nothing."""
    kinds = {action.partition(".")[2] for route, action in ROUTES.items() if route.startswith("GET ")}
    assert kinds == {"read", "list", "output", "events", "verify", "connect"}
    assert ROUTES["GET /mcp"] == "agent.connect", "which is answered with 405"


def test_page_is_current() -> None:
    hint = "python -m orchestrator.identity.authorization_page > docs/authorization.md"
    assert (ROOT / "docs" / "authorization.md").read_text() == reference(), hint
