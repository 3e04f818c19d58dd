"""Quotas and usage on real workers, some of them killed: nothing counts twice, and everything is given back."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

from orchestrator.store.accounting import microseconds
from tests.harness import Stack, bearer, eventually

SCOPES = ("executions:read", "executions:write")
PROGRAMS: list[dict[str, Any]] = [
    {"code": "echo fine"},
    {"code": "sleep 60", "limits": {"wall_seconds": 0.3}},
    {"code": "exit 3", "labels": {"end": "failed"}},
    {"code": "head -c 300000 /dev/zero > /output/zeros"},
    {"code": "sleep 0.5", "labels": {"end": "cancel"}},
]
COUNT = 120


def test_usage_equals_the_records_after_kills_and_running_quota_holds(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(driver="oci", slots=4, pool_sizes={"bash": 2}, retry_seconds=0.1, max_attempts=5).start()
    assert stack.client.put("/api/v1/tenants/bound/quotas", json={"running": 2, "weight": 3}).status_code == 200
    keys = {tenant: stack.new_key(*SCOPES, tenant=tenant) for tenant in ("bound", "free")}
    headers = {tenant: bearer(key["secret"]) for tenant, key in keys.items()}
    of_key = f"/api/v1/api-keys/{keys['free']['id']}/quotas"
    assert stack.client.put(of_key, json={"running": 1}).status_code == 200
    ids: dict[str, list[str]] = {tenant: [] for tenant in headers}
    for number in range(COUNT):
        tenant = ("bound", "free")[number % 2]
        body = PROGRAMS[number % len(PROGRAMS)]
        answer = stack.submit(headers=headers[tenant], environment="bash", **body)
        ids[tenant].append(answer.json()["id"])
        if "cancel" in body.get("labels", {}).values():
            stack.client.post(f"/api/v1/executions/{ids[tenant][-1]}/cancel", headers=headers[tenant])
    most = of_key_most = 0

    def use(tenant: str) -> dict[str, Any]:
        return dict(stack.client.get(f"/api/v1/tenants/{tenant}/quotas").json()["use"])

    def have_ended(count: int) -> bool:
        nonlocal most, of_key_most
        most = max(most, use("bound")["running"])
        of_key_most = max(of_key_most, stack.client.get(of_key).json()["use"]["running"])
        return bool(sum(use(tenant)["queued"] + use(tenant)["running"] for tenant in ids) <= count)

    for left in (90, 60, 30):
        eventually(lambda: have_ended(left), f"{left} are left", 120)  # noqa: B023 - called at once
        stack.workers[-1].stop(signal.SIGKILL)
        stack.start_worker()
    eventually(lambda: have_ended(0), "every execution has ended", 120)
    assert (most, of_key_most) == (2, 1)
    attempts = 0
    for tenant, own in ids.items():
        records = [stack.client.get(f"/api/v1/executions/{id}", headers=headers[tenant]).json() for id in own]
        attempts = max(attempts, *(record["attempt"] for record in records))
        sums: Counter[str] = Counter(executions=len(records))
        for record in records:
            used = record["usage"] or {}
            sums["wall_seconds"] += microseconds(used.get("wall_seconds") or 0)
            sums["cpu_seconds"] += microseconds(used.get("cpu_seconds") or 0)
            sums["output_bytes"] += record["stdout_bytes"] + record["stderr_bytes"]
            sums["artifact_bytes"] += sum(artifact["size"] for artifact in record["artifacts"])
        total = stack.client.get(f"/api/v1/tenants/{tenant}/usage").json()["total"]
        counted = {name: microseconds(value) if "seconds" in name else value for name, value in total.items()}
        assert {name: counted[name] for name in sums} == dict(sums)
        shown = use(tenant)
        assert [shown[name] for name in ("queued", "running", "cpu_seconds_reserved")] == [0, 0, 0]
        assert microseconds(shown["cpu_seconds_today"]) == sums["cpu_seconds"]
        used_by_key = stack.client.get(f"/api/v1/api-keys/{keys[tenant]['id']}/quotas").json()["use"]
        assert used_by_key == shown
        for id in own:
            assert stack.client.delete(f"/api/v1/executions/{id}", headers=headers[tenant]).status_code == 204
        used_by_key = stack.client.get(f"/api/v1/api-keys/{keys[tenant]['id']}/quotas").json()["use"]
        assert (use(tenant)["stored_bytes"], used_by_key["stored_bytes"]) == (0, 0)
    assert attempts > 1, "kills spoilt attempts"
