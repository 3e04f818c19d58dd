"""The page ``docs/authorization.md``, generated from the table of actions."""

from __future__ import annotations

from orchestrator.errors import MayflyError
from orchestrator.identity import Principal
from orchestrator.identity.authorization import ACTIONS, ROLES, Action, authorize

HEAD = """# Permissions

One function, `authorize(principal, action, tenant, resource)`, decides every request by the tables below, which are
made from `orchestrator/identity/authorization.py`. The API refuses to start if a route or a tool of agents has no row.

A principal is an API key, a user of an OIDC issuer, or an own user. A principal belongs to one tenant, and has the
scopes of its key or of its roles. `admin` has every scope but `worker`, which is for keys of worker hosts.

- **own**: for resources of the principal's own tenant. **every**: for resources of all tenants, and of the
  installation.
- *metadata*: state, reason, times, limits, usage and labels of an execution; no code, output, results or files.
- The answer for another tenant's resource is exactly the answer for an absent resource (404), and the answer to a
  request that names another tenant, such as one for its usage, the answer for an absent tenant (403). The request is
  recorded as a `cross_tenant_access` security event, which neither tenant sees.
- No scope, not even `admin`, gives access to another tenant's code or output. An administrator who needs access creates
  a key of that tenant.
- Tools of agents also need the scope `mcp`.
- A submission that waits (`Prefer: wait`) needs `executions:read`, too; a repeated submission of a caller without that
  scope shows metadata.
- `transfer.…`: a worker without the blob directory reads blobs of every tenant by their digests, and writes files of
  running attempts (`docs/operations/hosts.md`). Such a key has no rate limit.
"""


def reference() -> str:
    """The tables as Markdown; ``python -m orchestrator.identity.authorization_page`` prints them."""
    roles = ["## Roles", "", "| role | scopes |", "|---|---|"]
    roles += [f"| {role} | {', '.join(f'`{scope}`' for scope in sorted(scopes))} |" for role, scopes in ROLES.items()]
    names = " | ".join(ROLES)
    actions = ["## Actions by role", "", f"| action | {names} |", f"|---|{'---|' * len(ROLES)}"]
    actions += [f"| {name} | {' | '.join(_cell(name, role) for role in ROLES)} |" for name in ACTIONS]
    scopes = ["## Actions by scope", "", "| action | own | every | routes | agents |", "|---|---|---|---|---|"]
    scopes += [_row(name, action) for name, action in ACTIONS.items()]
    return "\n".join([HEAD, *roles, "", *actions, "", *scopes]) + "\n"


def _cell(action: str, role: str) -> str:
    principal = Principal(id="key:x", tenant="own", scopes=ROLES[role])
    try:
        shown = authorize(principal, action, "other")
        return "every" if shown == "whole" else f"{_own(principal, action)}every: metadata"
    except MayflyError:
        return _own(principal, action).rstrip(", ") or "no"


def _own(principal: Principal, action: str) -> str:
    try:
        return "own, " if authorize(principal, action, "own") == "whole" else ""
    except MayflyError:
        return ""


def _row(name: str, action: Action) -> str:
    shown = " *metadata*" if action.metadata else ""
    own, every = (text.replace(" | ", " or ").replace(" & ", " and ") for text in (action.own, action.every))
    routes, agents = ("<br>".join(f"`{one}`" for one in many) for many in (action.routes, action.agents))
    return f"| {name} | {own or 'no'} | {every or 'no'}{shown} | {routes} | {agents} |"


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - that is what it is for
