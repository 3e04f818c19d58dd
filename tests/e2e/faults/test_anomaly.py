"""A burst of failing programs on a real stack becomes an `anomaly` event, while it happens."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.anomaly import BUCKET_SECONDS, BUCKETS
from orchestrator.settings import Settings
from orchestrator.store import keys, open_store
from tests.harness import Stack, eventually


def test_a_burst_of_failures_is_reported_within_a_minute(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack().start()
    tenant = stack.run(code="print(1)")["tenant"]
    store = open_store(Settings(state_dir=stack.directory / "state", redis_url=stack.redis.url))
    try:
        # An hour of programs that ended well, written as the scripts count them, since a test cannot wait an hour. The
        # janitor with the lease remembers an empty hour, so another process takes over.
        assert stack.api is not None
        stack.api.stop()
        now = store.rates.bucket()
        for bucket in range(now - BUCKETS - 6, now - 6):
            store.redis.hset(f"{keys.RATES}{bucket}", f"tenant|ok|{tenant}", 10)
        store.redis.set(keys.RATES_SINCE, now - BUCKETS - 6)
        stack.start_api()
        stack.ready()
        failing = {"environment": "python", "code": "raise SystemExit(1)", "limits": {"wall_seconds": 60}}
        answer = stack.client.post("/api/v1/executions/batch", json={"executions": [failing] * 15})
        ids = [item["execution"]["id"] for item in answer.json()]
        assert {stack.ended(id)["reason"] for id in ids} == {"nonzero_exit"}
        reported = eventually(
            lambda: [entry for entry in store.security.read(tenant=tenant).items if entry.kind == "anomaly"],
            "the burst is reported",
            60,
        )
        # Once, though it continues to be unusual for the rest of the minute.
        stack.run(code="raise SystemExit(1)")
        later = store.rates.bucket() + 1
        eventually(lambda: store.rates.bucket() > later, "the janitor has evaluated another minute", 3 * BUCKET_SECONDS)
        assert len([e for e in store.security.read(tenant=tenant).items if e.kind == "anomaly"]) == 1
    finally:
        store.redis.close()
    [entry] = reported
    assert (entry.source, entry.tenant, entry.execution) == ("janitor", tenant, None)
    event = entry.event
    assert (event["dimension"], event["name"], event["what"]) == ("tenant", tenant, "user")
    assert event["threshold"] == 10 <= event["observed"] <= 15
    assert event["expected"] == 0
    assert event["detail"].startswith(
        f"In tenant {tenant}, {event['observed']} attempts failed by the programs' own fault"
    )
    metrics = stack.client.get("/metrics").text
    assert 'mayfly_anomalies_total{dimension="tenant",what="user"} 1.0' in metrics
