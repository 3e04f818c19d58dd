"""The removal of tenants that are being deleted: in each round a page of their executions, then all other data.

Executions end as cancelled by the operator, each in a step that also returns what the execution uses of quotas.
"""

from __future__ import annotations

from orchestrator import queue
from orchestrator.audit import Writer
from orchestrator.errors import StillRunning
from orchestrator.settings import Settings
from orchestrator.states import Reason, State, cancelled
from orchestrator.store import Store, keys, scripts
from orchestrator.store.accounting import USAGE_SECONDS

TENANTS, EXECUTIONS = 20, 500  # tenants in a round, and executions of each


def tenants_to_delete(store: Store) -> list[str]:
    """Some of the tenants that are being deleted."""
    found = store.redis.srandmember(keys.TENANTS_DELETING, TENANTS)
    return [tenant.decode(errors="replace") for tenant in found]


def some_of(store: Store, tenant: str) -> list[str]:
    """Ids of the tenant's oldest executions."""
    found = store.redis.zrange(keys.tenant_index(tenant), 0, EXECUTIONS - 1)
    return [id.decode(errors="replace") for id in found]


def remove(store: Store, tenant: str, id: str) -> None:
    """Remove an execution of a tenant, or cancel a running one. Raises :class:`NotFound`."""
    state, reason = store.redis.hget(keys.execution(id), "state"), Reason.CANCELLED_BY_OPERATOR
    if state == b"queued":
        execution = store.records.get(id, None)
        if store.records.end(id, cancelled(reason), "The tenant was deleted.", None, (State.QUEUED,)):
            queue.withdraw(store, execution)
    elif state in (b"starting", b"running"):
        store.records.request_cancel(id, reason)
        return
    try:
        store.records.delete(id, tenant)
    except StillRunning:
        return  # the execution was claimed meanwhile; the next round cancels it
    store.delete_files(id)


def finish(store: Store, tenant: str, settings: Settings) -> None:
    """Remove the other data of a tenant, and the tenant itself once it has no executions; the latter is audited.

    Its name stays taken for as long as its audit log, its security events or its usage may be kept.
    """
    for name in store.redis.hkeys(keys.tool_servers(tenant)):
        store.tools.servers.remove(tenant, name.decode(errors="replace"))
    kept_seconds = max(USAGE_SECONDS, settings.security_seconds, settings.audit_days * 86400)
    entry = Writer(settings.secret()).entry(None, "tenant.purge", f"tenant/{tenant}", owner=tenant)
    if store.redis.eval(scripts.PURGE, 0, tenant, entry, kept_seconds):
        store.own_blobs.delete_tenant(tenant)
