"""A primary is killed, and all continue by themselves with the replica that Sentinels put in its place."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.host.posture import check_redis
from orchestrator.settings import Settings
from orchestrator.store import keys
from orchestrator.store.platform.inspection import inspect_redis
from tests.chaos.installations.installation import Installation, Load
from tests.chaos.installations.replicas import ReplicatedRedis
from tests.harness import eventually

ENOUGH = 15
PROGRAM: dict[str, Any] = {"environment": "python", "code": "print(1)"}


@pytest.fixture
def replicated(installation: Callable[..., Installation]) -> tuple[Installation, ReplicatedRedis]:
    """An installation whose Redis has a replica, and a lease that is longer than a fail-over takes."""
    stack = installation(lease_seconds=30, rate_limit="100000/10 second")
    servers: Any = ReplicatedRedis(stack.directory)
    stack.redis, stack.env["MAYFLY_REDIS_URL"] = servers, servers.url
    stack.raw.close()
    stack.raw = servers.client()
    return stack, servers


@pytest.mark.parametrize(
    ("how", "times"),
    [
        pytest.param(signal.SIGKILL, 1, id="killed"),
        pytest.param(signal.SIGKILL, 2, marks=pytest.mark.complete, id="killed-twice"),
        pytest.param(signal.SIGSTOP, 1, marks=pytest.mark.complete, id="stopped"),
    ],
)
def test_replicated_execution_ends_once_after_failover(
    replicated: tuple[Installation, ReplicatedRedis], how: signal.Signals, times: int
) -> None:
    stack, servers = replicated
    crew = stack.begin(2, iter(()))
    stack.ready()
    born = set(crew.pids())
    load = Load(stack, 8, 1, pause_ms=15)
    killed: list[int] = []
    try:
        eventually(lambda: len(load.accepted) > ENOUGH, "there is load", 60)
        while True:
            killed.append(servers.end_primary(how))
            before = len(load.accepted)
            eventually(lambda: len(load.accepted) > before + ENOUGH, "clients' executions continue", 60)  # noqa: B023 - called at once
            eventually(
                lambda: stack.raw.pubsub_numsub(keys.ENDED)[0][1] == 1, "the API has subscribed at the new primary", 60
            )
            if len(killed) == times:
                break
            servers.start_server(killed[-1])
            eventually(lambda: servers.follows(killed[-1]), "the killed primary returns as a replica", 60)
            servers.end_sentinel()
    finally:
        load.stop()
    assert killed == list(range(times))
    assert load.refused == []
    assert servers.printed(1 - killed[-1], "replication")["role"] == "master"
    assert set(crew.pids()) == born
    assert stack.check(load.accepted) == []
    attempts = {
        one.reported["attempt"] for one in load.accepted if one.reported and one.reported["state"] != "cancelled"
    }
    assert attempts == {1}


@pytest.mark.complete
def test_unreplicated_submission_is_lost_unless_min_replicas_is_set(
    replicated: tuple[Installation, ReplicatedRedis],
) -> None:
    """A submission that docs/redis.md calls losable is lost; with ``min-replicas-to-write`` it is refused instead."""
    stack, servers = replicated
    servers.start()
    stack.start_api()
    found = check_redis(Settings(redis_url=servers.url), inspect_redis(servers.url, 5))
    assert {finding.name for finding in found if finding.status != "ok"} == {"redis memory"}
    kept = stack.submit(headers={"Idempotency-Key": "kept"}, **PROGRAM).json()["id"]
    eventually(servers.caught_up, "the replica has caught up")
    servers.cut_off_replica()
    lost = stack.submit(headers={"Idempotency-Key": "lost"}, **PROGRAM)
    assert lost.status_code == 202
    with servers.server(0) as client:
        client.config_set("min-replicas-to-write", 1)
    refused = stack.submit(**PROGRAM)
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    servers.end(0, signal.SIGKILL)
    eventually(lambda: stack.answers(f"/api/v1/executions/{kept}"), "the replica takes over", 60)
    assert stack.client.get(f"/api/v1/executions/{lost.json()['id']}").status_code == 404
    eventually(
        lambda: stack.submit(headers={"Idempotency-Key": "lost"}, **PROGRAM).status_code == 202,
        "the new primary accepts submissions",
    )
    again = stack.submit(headers={"Idempotency-Key": "lost"}, **PROGRAM).json()["id"]
    assert again != lost.json()["id"]
    assert stack.submit(headers={"Idempotency-Key": "kept"}, **PROGRAM).json()["id"] == kept
