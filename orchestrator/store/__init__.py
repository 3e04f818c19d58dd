"""All data in Redis and on disk, behind one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.settings import Settings
from orchestrator.store.connection import connect
from orchestrator.store.content import open_blobs
from orchestrator.store.content.blobs import Blobs, OwnBlobs
from orchestrator.store.content.stdin import StreamedStdin
from orchestrator.store.executions.agent_calls import AgentCalls
from orchestrator.store.executions.records import Records
from orchestrator.store.output import Output
from orchestrator.store.platform.capacity import Capacity
from orchestrator.store.platform.deletions import Deletions
from orchestrator.store.platform.fleet import Fleet
from orchestrator.store.platform.quotas import Quotas
from orchestrator.store.platform.rates import Rates
from orchestrator.store.platform.schema import Schema
from orchestrator.store.platform.switches import Switches
from orchestrator.store.platform.usage import Usages
from orchestrator.store.security import LogBounds, SecurityLog
from orchestrator.store.steps import Steps
from orchestrator.store.tools import Tools, tools_of
from orchestrator.store.tools.calls import CallsPerDay


@dataclass(frozen=True)
class Store:
    """The parts of the store, over one client."""

    redis: Any
    records: Records
    output: Output
    fleet: Fleet
    blobs: Blobs
    security: SecurityLog
    rates: Rates
    capacity: Capacity
    stdin: StreamedStdin
    tools: Tools
    agent_calls: AgentCalls
    usages: Usages
    quotas: Quotas
    deletions: Deletions
    schema: Schema
    switches: Switches

    @property
    def own_blobs(self) -> OwnBlobs:
        """The contents with uploads and deletion. Raises ``ValueError`` if this process has a worker's part alone."""
        if not isinstance(self.blobs, OwnBlobs):
            raise ValueError("MAYFLY_BLOBS_URL names an API: that is for workers; an API has a directory or a bucket")
        return self.blobs

    def now(self) -> float:
        """Redis's clock, shared by all hosts: seconds since the epoch."""
        seconds, microseconds = self.redis.time()
        return float(seconds) + float(microseconds) / 1e6

    def delete_files(self, id: str) -> None:
        """Remove the files of an execution whose record was removed; during a backup the janitor removes them later."""
        if not self.deletions.are_paused():
            self.own_blobs.delete_artifacts(id)
            self.records.deleted(id)


def open_store(settings: Settings) -> Store:
    """Build the store; nothing is sent to Redis yet."""
    connection = connect(settings.effective_redis_url, settings.redis_timeout_seconds)
    bounds = LogBounds(settings.security_events, settings.security_seconds)
    blobs = open_blobs(settings)
    steps = Steps(connection, bounds, settings.retention_seconds, settings.redis_share)
    calls_per_day = CallsPerDay(settings.tenant_quotas.tool_calls_per_day, settings.key_quotas.tool_calls_per_day)
    return Store(
        redis=connection,
        records=Records(connection, steps, blobs, settings.retention_seconds),
        output=Output(connection, steps, blobs),
        fleet=Fleet(connection, settings.lease_seconds),
        blobs=blobs,
        security=SecurityLog(connection, bounds),
        rates=Rates(connection),
        capacity=Capacity(connection, settings.redis_share, settings.tenant_redis_share),
        stdin=StreamedStdin(connection),
        tools=tools_of(connection, settings.redis_share, settings.tenant_redis_share, calls_per_day),
        agent_calls=AgentCalls(connection),
        usages=Usages(connection),
        quotas=Quotas(connection, settings.tenant_quotas, settings.key_quotas),
        deletions=Deletions(connection),
        schema=Schema(connection),
        switches=Switches(connection),
    )
