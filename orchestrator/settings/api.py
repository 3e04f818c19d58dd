"""Settings of the API and of its janitor: bounds of requests, agents, policy, queue, retention."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.models.tenants.quotas import KeyQuotas, TenantQuotas
from orchestrator.settings.shared import SharedSettings

LONGEST_RETRY_SECONDS = 60.0


class ApiSettings(SharedSettings):
    """The settings of an API process."""

    api_host: str = Field("127.0.0.1", description="Address the API listens on.")
    api_port: int = Field(8000, ge=0, le=65535, description="Port the API listens on.")
    api_metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of a listener with the API's metrics alone, without keys, on `metrics_host`; 0: none, and "
        "`GET /metrics` serves them.",
    )
    body_bytes: int = Field(32 * 2**20, gt=0, description="Largest request body.")
    connections: int = Field(4096, gt=0, description="Connections one API process keeps open; beyond that 503.")
    address_connections: int = Field(
        512,
        gt=0,
        description="Connections from one address, or one /64 of IPv6; beyond that 429. Behind a proxy all come from "
        "its address: then let the proxy bound its clients, and set this to the number that the proxy opens.",
    )
    stall_seconds: float = Field(
        30.0, gt=0, description="Longest pause in a client's reading of an answer; then the answer is cut off."
    )
    answer_rate: float = Field(
        16384,
        gt=0,
        description="Least rate at which a client must read an answer that waits for it, in bytes a second, beyond "
        "`stall_seconds`; then the answer is cut off.",
    )
    body_seconds: float = Field(
        20.0, gt=0, description="Longest wait for a request's body, beyond the time by `body_rate`; then 408."
    )
    body_rate: float = Field(16384, gt=0, description="Least rate at which a body must arrive, in bytes a second.")
    uploads: int = Field(
        64, gt=0, description="Bodies over 64 KiB that one API process receives at once; beyond that 503."
    )
    tenant_uploads: int = Field(
        16,
        gt=0,
        description="Such bodies of one tenant at once; beyond that 429 too_many_uploads. A tenant with n of them gets "
        "another only while more than n are free.",
    )
    answers: int = Field(
        128, gt=0, description="Answers over 1 MiB that one API process sends at once; beyond that 503."
    )
    tenant_answers: int = Field(
        32,
        gt=0,
        description="Such answers to one tenant at once; beyond that 429 too_many_answers. A tenant with n of them "
        "gets another only while more than n are free.",
    )
    input_bytes: int = Field(32 * 2**20, gt=0, description="Largest sum of one execution's inputs and stdin.")
    artifact_bytes: int = Field(64 * 2**20, gt=0, description="Largest sum of one execution's artifacts.")
    artifact_files: int = Field(1000, gt=0, description="Most artifacts of one execution.")
    result_bytes: int = Field(8 * 2**20, gt=0, description="Largest sum of one execution's results.")
    result_count: int = Field(32, gt=0, le=1000, description="Most results of one execution.")
    rate_limit: str = Field(
        "100/10 second", description="Requests per principal, shared by all API processes; or `off`."
    )
    proxies: list[str] = Field(
        [],
        description="Addresses or networks of reverse proxies (JSON list) whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are trusted: as the client's address in logs and bounds, and as its scheme.",
    )
    streams: int = Field(100, gt=0, description="Live streams one tenant may follow at once, in each API process.")
    mcp_enabled: bool = Field(True, description="Whether the API serves agents at `/mcp` (`docs/agents.md`).")
    mcp_hosts: list[str] = Field(
        ["127.0.0.1:*", "localhost:*", "[::1]:*"],
        description="`Host` headers that `/mcp` answers, as `name`, `name:port` or `name:*` (JSON list); others get "
        "421. Add the names under which agents reach this API.",
    )
    mcp_origins: list[str] = Field(
        ["http://127.0.0.1:*", "http://localhost:*", "http://[::1]:*"],
        description="`Origin` headers that `/mcp` answers, for agents in browsers (JSON list); others get 403, and "
        "requests without the header are served.",
    )
    mcp_body_bytes: int = Field(4 * 2**20, gt=0, description="Largest body of a request to `/mcp`.")
    mcp_calls: int = Field(
        256,
        gt=0,
        description="Requests to `/mcp` that one tenant has in progress in each API process; beyond that 429.",
    )
    mcp_wait_seconds: float = Field(
        50.0,
        gt=0,
        description="Longest time that a tool call waits for an execution's end; for a longer execution the answer is "
        "its id. Many clients give up after 60 s.",
    )
    mcp_output_tokens: int = Field(
        500, ge=100, description="Tokens (o200k) of one tool result, unless the call requests another number."
    )
    mcp_filtered: list[str] = Field(
        [],
        description="Tenants, or keys as `tenant/key id`, whose agents get labels in place of personal data; `*`: all "
        "(JSON list).",
    )
    mcp_most_output_tokens: int = Field(20_000, ge=100, description="Most tokens of a result that a call may request.")
    policy_mode: Literal["off", "audit", "enforce"] = Field(
        "audit", description="Static policy for Python programs, unless `MAYFLY_POLICY_MODES` sets another mode."
    )
    policy_modes: dict[str, Literal["off", "audit", "enforce"]] = Field(
        {},
        description="Mode for single tenants and environments (JSON object). Keys, the first match "
        "wins: `tenant/environment`, `tenant`, `*/environment`.",
    )
    policy_ignored_rules: list[str] = Field([], description="Policy rules that are not applied (JSON list).")
    queue_limit: int = Field(5000, gt=0, description="Most executions queued at once; beyond that 503 queue_full.")
    tenant_queue_share: float = Field(
        0.9, gt=0, le=1, description="Share of the queue that one tenant may fill; beyond that 429 tenant_queue_full."
    )
    tenant_quotas: TenantQuotas = Field(TenantQuotas(), description="Default quotas of tenants (JSON object).")
    key_quotas: KeyQuotas = Field(KeyQuotas(), description="Default quotas of API keys (JSON object).")
    redis_memory_bytes: int = Field(
        2**30,
        gt=0,
        description="Most memory of the Redis that `mayfly up` runs; the bound of any other is its own `maxmemory`.",
    )
    redis_share: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Share of Redis's `maxmemory` beyond which submissions are refused (503 store_full), and output "
        "goes to files.",
    )
    tenant_redis_share: float = Field(
        0.5, gt=0, le=1, description="Share of that memory that one tenant may use; beyond that 429 tenant_store_full."
    )
    queue_seconds: float = Field(3600, gt=0, description="Longest wait in the queue before queue_expired.")
    retention_seconds: float = Field(86400, gt=0, description="How long a finished execution is kept.")
    security_events: int = Field(
        10_000, gt=0, description="Security events kept, roughly: of the installation, and of each tenant."
    )
    security_seconds: int = Field(30 * 86400, gt=0, description="How long security events are kept.")
    retry_seconds: float = Field(
        1.0, ge=0, description="Pause before the second attempt; each further pause is twice as long."
    )
    max_attempts: int = Field(3, gt=0, description="Attempts of one execution when the platform fails.")
    audit_days: int = Field(400, ge=1, description="Days for which entries of the audit log are kept.")
    audit_submissions: bool = Field(False, description="Whether each submission is an entry of the audit log.")
    audit_tool_calls: Literal["refused", "destructive", "all"] = Field(
        "destructive",
        description="Calls of tools in the audit log: `refused` calls, `destructive` (also calls that may destroy "
        "data), or `all`.",
    )
    audit_entries: int = Field(
        1_000_000, ge=1000, description="Most entries of the audit log; each takes some 400 bytes of Redis's memory."
    )
    janitor_seconds: float = Field(2.0, gt=0, description="Pause between the janitor's rounds.")
    anomalies: bool = Field(True, description="Whether bursts of failures and security events are reported.")

    def retry_pause(self, pauses: int) -> float:
        """Seconds before the next attempt, the ``pauses``-th such pause of an execution; none for 0."""
        return min(LONGEST_RETRY_SECONDS, self.retry_seconds * 2.0 ** (pauses - 1)) if pauses else 0.0
