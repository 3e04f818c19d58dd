"""Authorization: the table of actions, and the function that decides by the table. Pure.

Every route, stream, artifact and tool of agents is in the table under one action. The API refuses to start with a route
that is missing there (:func:`orchestrator.api.create_app`). ``docs/authorization.md`` is made from this module.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from orchestrator.errors import Forbidden, NotFound
from orchestrator.identity import Principal

Shown = Literal["whole", "metadata"]
API, EXECUTIONS, TOOLS = "/api/v1", "/api/v1/executions", "/api/v1/tool-servers"
WORKER = "worker"  # a scope
USER, TENANTS = f"{API}/users/{{id}}", f"{API}/tenants"
ISSUERS = f"{API}/issuers"
TENANT, ACCOUNTS = f"{API}/tenants/{{id}}", f"{API}/tenants/{{id}}/service-accounts"


class Action(NamedTuple):
    """One row of the table: the scopes for an action, and the action's routes and methods of agents.

    Scopes are written ``a | b`` for either and ``a & b`` for both; ``admin`` has every scope. ``own`` are the scopes
    for resources of the principal's own tenant, ``every`` those for resources of all tenants and of the installation.
    ``metadata``: with ``every`` an execution is shown without code, output and files.
    """

    own: str = ""
    every: str = ""
    metadata: bool = False
    routes: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()


ACTIONS: dict[str, Action] = {
    "execution.submit": Action(own="executions:write", routes=(f"POST {EXECUTIONS}", f"POST {EXECUTIONS}/batch")),
    "execution.submit_and_read": Action(own="executions:write & executions:read", agents=("execute_code",)),
    "execution.list": Action(own="executions:read", every="fleet:read", metadata=True, routes=(f"GET {EXECUTIONS}",)),
    "execution.read": Action(
        own="executions:read", every="fleet:read", metadata=True, routes=(f"GET {EXECUTIONS}/{{id}}",)
    ),
    "execution.output": Action(
        own="executions:read",
        routes=(
            f"GET {EXECUTIONS}/{{id}}/stdout",
            f"GET {EXECUTIONS}/{{id}}/stderr",
            f"GET {EXECUTIONS}/{{id}}/stream",
            f"GET {EXECUTIONS}/{{id}}/artifacts",
            f"GET {EXECUTIONS}/{{id}}/artifacts/{{path}}",
        ),
        agents=("get_execution", "read_output", "resources/list", "resources/read", "tasks/get", "tasks/update"),
    ),
    "execution.events": Action(
        own="executions:read | security:read", every="fleet:read", routes=(f"GET {EXECUTIONS}/{{id}}/events",)
    ),
    "execution.cancel": Action(
        own="executions:write",
        every="fleet:write",
        metadata=True,
        routes=(f"POST {EXECUTIONS}/{{id}}/cancel",),
        agents=("cancel_execution", "tasks/cancel", "notifications/cancelled"),
    ),
    "execution.change": Action(
        own="executions:write",
        routes=(
            f"POST {EXECUTIONS}/{{id}}/stdin",
            f"POST {EXECUTIONS}/{{id}}/tool-results/{{call_id}}",
            f"DELETE {EXECUTIONS}/{{id}}",
        ),
    ),
    "blob.upload": Action(own="blobs:write", routes=(f"PUT {API}/blobs",)),
    # For keys of workers alone. `admin` lacks the scope, since a worker reads the blobs of every tenant.
    "transfer.read": Action(
        every=WORKER, routes=(f"GET {API}/transfers/blobs/{{tenant}}/{{sha256}}", f"GET {API}/transfers/room")
    ),
    "transfer.write": Action(every=WORKER, routes=(f"PUT {API}/transfers/files/{{id}}/{{attempt}}/{{name}}",)),
    "environment.list": Action(
        every="executions:read | fleet:read", routes=(f"GET {API}/environments",), agents=("list_environments",)
    ),
    "tool.read": Action(
        own="executions:read",
        every="admin",
        routes=(f"GET {API}/tools", f"GET {TOOLS}", f"GET {TOOLS}/{{name}}", f"GET {TOOLS}/{{name}}/changes"),
        agents=("search_tools",),
    ),
    "tool.call": Action(own="executions:write", routes=(f"POST {API}/tools/{{server}}/{{tool}}/calls",)),
    "tool_server.change": Action(
        every="admin",
        routes=(f"PUT {TOOLS}/{{name}}", f"DELETE {TOOLS}/{{name}}", f"POST {TOOLS}/{{name}}/accept"),
    ),
    "security.read": Action(
        own="security:read", every="security:read & fleet:read", routes=(f"GET {API}/security-events",)
    ),
    "audit.read": Action(own="audit:read", every="audit:read & fleet:read", routes=(f"GET {API}/audit",)),
    "audit.verify": Action(every="audit:read & fleet:read", routes=(f"GET {API}/audit/seals",)),
    "fleet.read": Action(every="fleet:read", routes=(f"GET {API}/workers", f"GET {API}/queues")),
    "switch.read": Action(every="fleet:read", routes=(f"GET {API}/switches",)),
    "switch.change": Action(every="fleet:write", routes=(f"PUT {API}/switches/{{feature}}",)),
    "fleet.drain": Action(
        every="fleet:write", routes=(f"POST {API}/workers/{{id}}/drain", f"DELETE {API}/workers/{{id}}/drain")
    ),
    "key.read": Action(
        own="tenant:admin", every="admin", routes=(f"GET {API}/api-keys", f"GET {API}/api-keys/{{id}}/quotas")
    ),
    "key.change": Action(
        own="tenant:admin",
        every="admin",
        routes=(f"POST {API}/api-keys", f"DELETE {API}/api-keys/{{id}}", f"PUT {API}/api-keys/{{id}}/quotas"),
    ),
    "user.read": Action(every="admin", routes=(f"GET {API}/users", f"GET {USER}", f"GET {USER}/sessions")),
    "user.change": Action(
        every="admin",
        routes=(f"POST {API}/users", f"PATCH {USER}", f"DELETE {USER}", f"DELETE {USER}/sessions/{{session}}"),
    ),
    "issuer.read": Action(every="admin", routes=(f"GET {ISSUERS}", f"GET {ISSUERS}/{{id}}")),
    "issuer.change": Action(every="admin", routes=(f"PUT {ISSUERS}", f"DELETE {ISSUERS}/{{id}}")),
    "tenant.read": Action(
        own="executions:read | tenant:admin",
        every="admin",
        routes=(f"GET {TENANTS}", f"GET {TENANT}", f"GET {TENANT}/usage", f"GET {TENANT}/quotas"),
    ),
    "tenant.change": Action(
        every="admin",
        routes=(f"POST {TENANTS}", f"PATCH {TENANT}", f"DELETE {TENANT}", f"PUT {TENANT}/quotas"),
    ),
    "service_account.read": Action(
        own="tenant:admin", every="admin", routes=(f"GET {ACCOUNTS}", f"GET {ACCOUNTS}/{{name}}")
    ),
    "service_account.change": Action(
        own="tenant:admin",
        every="admin",
        routes=(f"POST {ACCOUNTS}", f"PATCH {ACCOUNTS}/{{name}}", f"DELETE {ACCOUNTS}/{{name}}"),
    ),
    "metrics.read": Action(every="metrics", routes=("GET /metrics",)),
    "agent.connect": Action(own="mcp", routes=("POST /mcp", "GET /mcp", "DELETE /mcp")),
}
# The roles that an issuer's claim or an administrator gives to users; API keys have scopes instead.
ROLES: dict[str, frozenset[str]] = {
    "admin": frozenset({"admin"}),
    "operator": frozenset({"fleet:read", "fleet:write", "security:read", "metrics"}),
    "developer": frozenset({"executions:write", "executions:read", "blobs:write", "mcp"}),
    "auditor": frozenset({"security:read", "audit:read"}),
    "tenant_admin": frozenset({"tenant:admin", "security:read", "audit:read"}),
}
ROUTES = {route: name for name, action in ACTIONS.items() for route in action.routes}
AGENTS = {method: name for name, action in ACTIONS.items() for method in action.agents}


def authorize(principal: Principal, action: str, tenant: str | None = None, resource: str | None = None) -> Shown:
    """Permit or refuse the action, and decide how much of an execution the answer shows.

    ``tenant`` is the owner; with ``None``, before the resource is read, an action that is permitted on some resource
    passes. ``resource`` names the resource in a refusal, such as ``execution '…'``; ``None`` if the request names a
    tenant.

    Raises :class:`Forbidden`; for a resource of another tenant :class:`NotFound`, as for an absent resource.
    """
    rule = ACTIONS[action]
    if tenant in (None, principal.tenant) and permits(principal, action):
        return "whole"
    if _has(principal, rule.every):
        return "metadata" if rule.metadata else "whole"
    other = None if tenant == principal.tenant else tenant
    if other is not None and resource is not None:
        raise NotFound(f"There is no {resource}.", owner=other)
    ways = (rule.own, rule.every) if other is None else (rule.every,)
    needed = " | ".join(filter(None, ways)).replace("&", "and").replace("|", "or")
    raise Forbidden(f"This call needs the scope {needed}; the caller does not have it.", owner=other)


def reach(principal: Principal, action: str) -> str | None:
    """The only tenant whose resources the principal may look up for an action; ``None``: all tenants.

    :func:`authorize` then decides about each resource, and how much of it is shown.
    """
    return None if _has(principal, ACTIONS[action].every) else principal.tenant


def permits(principal: Principal, action: str) -> bool:
    """Whether the principal may do the action to resources of its own tenant."""
    return _has(principal, ACTIONS[action].own)


def scopes_of(roles: frozenset[str]) -> frozenset[str]:
    """The union of the roles' scopes."""
    return frozenset().union(*(ROLES[role] for role in roles))


def _has(principal: Principal, needed: str) -> bool:
    """Whether a principal has the scopes of an expression; false for an empty expression."""
    if "admin" in principal.scopes:
        return needed not in ("", WORKER)
    return any(all(part in principal.scopes for part in both.split(" & ")) for both in needed.split(" | "))
