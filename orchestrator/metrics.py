"""Every metric's name, in base units. No ids and no tenants as labels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

# From a millisecond, the time of a warm start, to the longest wall limit.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

http_requests = Counter("mayfly_http_requests_total", "Requests answered.", ["method", "route", "status"])
http_seconds = Histogram(
    "mayfly_http_request_seconds", "Time to answer a request.", ["method", "route"], buckets=SECONDS
)
submitted = Counter("mayfly_executions_submitted_total", "Executions accepted.", ["environment", "priority"])
refused = Counter("mayfly_requests_refused_total", "Requests refused, by error code.", ["code"])
quota_refusals = Counter(
    "mayfly_quota_refusals_total", "Submissions refused by a quota of a tenant or an API key.", ["quota", "of"]
)
connections = Gauge("mayfly_http_connections", "Connections open.")
connections_cut = Counter(
    "mayfly_http_connections_cut_total",
    "Connections closed without an answer, by cause: silent, slow_reader, or gave_way.",
    ["cause"],
)
mcp_calls = Counter(
    "mayfly_mcp_calls_total", "Tool calls of agents, by outcome: ok, error, or cancelled.", ["tool", "outcome"]
)
mcp_seconds = Histogram("mayfly_mcp_call_seconds", "Time to answer a tool call.", ["tool"], buckets=SECONDS)
mcp_tokens = Counter(
    "mayfly_mcp_tokens_total", "Tokens (o200k) of executions' output, returned to agents or withheld.", ["kind"]
)
queue_depth = Gauge("mayfly_queue_depth", "Executions queued.", ["priority"])
queue_oldest = Gauge(
    "mayfly_queue_oldest_seconds", "Age of the oldest execution that waits for a worker; 0 if none waits."
)
janitor_actions = Counter("mayfly_janitor_actions_total", "Actions of the janitor, by kind.", ["action"])
wakeup_failures = Counter(
    "mayfly_wakeup_failures_total", "Restarts of the API's wake-up listener after an internal error."
)
store_malformed = Counter(
    "mayfly_store_malformed_total", "Malformed keys, values and messages in Redis that were skipped.", ["what"]
)
janitor_failures = Counter("mayfly_janitor_failures_total", "Janitor rounds that ended with an error.")

finished = Counter(
    "mayfly_executions_finished_total", "Executions ended.", ["environment", "state", "reason", "fault", "start"]
)
queue_seconds = Histogram("mayfly_execution_queue_seconds", "Wait in the queue.", ["environment"], buckets=SECONDS)
start_seconds = Histogram(
    "mayfly_execution_start_seconds", "Time to a ready sandbox.", ["environment"], buckets=SECONDS
)
run_seconds = Histogram("mayfly_execution_run_seconds", "Time the program ran.", ["environment"], buckets=SECONDS)
collect_seconds = Histogram(
    "mayfly_execution_collect_seconds", "Time from the program's end to the verdict.", ["environment"], buckets=SECONDS
)
security_events = Counter("mayfly_security_events_total", "Security events.", ["kind"])
denials_lost = Counter("mayfly_kernel_denials_lost_total", "Times the kernel dropped audit records of denied calls.")
audit_entries = Counter("mayfly_audit_entries_total", "Entries of the audit log that were sealed.")
anomalies = Counter(
    "mayfly_anomalies_total", "Anomalous bursts reported, by dimension and kind.", ["dimension", "what"]
)
slots = Gauge("mayfly_worker_slots", "Executions this worker can run concurrently.")
slots_busy = Gauge("mayfly_worker_slots_busy", "Slots in use.")
pool_size = Gauge("mayfly_pool_containers", "Warm containers waiting.", ["environment", "isolation"])
pool_wanted = Gauge(
    "mayfly_pool_wanted_containers",
    "Warm containers the pool aims for, from recent demand.",
    ["environment", "isolation"],
)
pool_retired = Counter("mayfly_pool_retired_total", "Warm containers destroyed before use, by cause.", ["cause"])
pool_leases = Counter(
    "mayfly_pool_leases_total",
    "Sandboxes leased, from the warm pool (hit) or launched on demand (miss).",
    ["environment", "outcome"],
)
cleanup_failures = Counter(
    "mayfly_cleanup_failures_total", "Failed attempts to remove a container or directory; the reaper retries."
)
reaped = Counter("mayfly_reaped_total", "Orphaned containers, cgroups and directories removed by the reaper.", ["kind"])
engine_calls_refused = Counter(
    "mayfly_engine_calls_refused_total", "Calls that the engine proxy refused, by the part at fault.", ["reason"]
)
engine_errors = Counter("mayfly_engine_errors_total", "Failed calls to the container engine.", ["call"])
slot_failures = Counter(
    "mayfly_worker_slot_failures_total", "Attempts that ended with an internal error of the worker."
)
launches_blocked = Gauge(
    "mayfly_worker_launches_blocked",
    "1 while the worker takes no executions of this isolation because launches fail.",
    ["isolation"],
)
disks_full = Gauge(
    "mayfly_worker_disks_full", "Disks below their free-space threshold; while above 0 the worker takes no executions."
)
leases_lost = Counter(
    "mayfly_worker_leases_lost_total", "Times this worker's lease expired without a renewal in Redis."
)
claims_refused = Counter(
    "mayfly_worker_claims_without_room_total", "Claims refused because Redis was at its maxmemory; each is retried."
)
store_errors = Counter("mayfly_worker_store_errors_total", "Failed calls to Redis from this worker.")

tool_calls = Counter("mayfly_tool_calls_total", "Calls of tools, by outcome: ok, or the failure's code.", ["outcome"])
tool_seconds = Histogram("mayfly_tool_call_seconds", "Time that tool servers took for calls.", buckets=SECONDS)
tool_calls_active = Gauge("mayfly_tool_calls_active", "Calls that the broker has taken and not settled.")
tool_upstreams = Gauge("mayfly_tool_servers", "Tool servers that the broker serves, by state.", ["state"])
tool_upstream_failures = Counter(
    "mayfly_tool_server_failures_total", "Connections to tool servers that failed or ended; each is opened again."
)
tool_catalogue_changes = Counter(
    "mayfly_tool_catalogue_changes_total", "Changed catalogues of tool servers, by their state since.", ["state"]
)
broker_leases_lost = Counter(
    "mayfly_broker_leases_lost_total", "Times the broker's lease expired without a renewal in Redis."
)
broker_failures = Counter(
    "mayfly_broker_failures_total",
    "Failed steps of the broker: publish, beat, lose, take, or settle; each is retried.",
    ["part"],
)
tool_outcomes_lost = Counter(
    "mayfly_tool_outcomes_lost_total", "Outcomes of calls that Redis refused for as long as a lease lasts."
)


def show_queues(depths: Mapping[str, int], oldest_seconds: float) -> None:
    """Export the queues of the installation, in the one API process that has the janitor's lease; in others no depth
    and the age 0, so that the greatest of all processes is true.
    """
    if not depths:
        queue_depth.clear()
    for priority, depth in depths.items():
        queue_depth.labels(priority).set(depth)
    queue_oldest.set(oldest_seconds)


def count_end(environment: str, state: str, reason: str | None, fault: str | None, start: str | None = None) -> None:
    """Count one execution's end; inapplicable labels are empty."""
    _series(finished, environment, state, reason or "", fault or "", start or "").inc()


def observe_times(environment: str, queue: float, start: float, run: float, collect: float) -> None:
    """Observe the times of one execution, in seconds."""
    parts = ((queue_seconds, queue), (start_seconds, start), (run_seconds, run), (collect_seconds, collect))
    for histogram, seconds in parts:
        _series(histogram, environment).observe(seconds)


@cache
def _series(metric: Any, *labels: str) -> Any:
    """The series of a metric, of which there are few, without prometheus-client's checks of labels and its lock."""
    return metric.labels(*labels)
