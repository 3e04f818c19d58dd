"""The accounting of Redis's memory, which the scripts charge to tenants, and of tenants' usage."""

from __future__ import annotations

from orchestrator.models import Result

# The memory of a tenant's executions in Redis, in bytes: ``bytes`` in ``mayfly:tenant:…:room``, and of each in
# ``bytes`` of its record. ``most`` is how much the tenant may have, as of its last submission, if there is a bound.
RECORD_BYTES = 5 * 1024  # of keys, indexes and states; 4 KB is the least of a stream that grows
SPARE_BYTES = 3 * 1024  # of these, freed at the end (``shrink.lua``)
ENTRY_BYTES = 32  # of an entry of a stream
IDEMPOTENCY_BYTES = 1024  # of an Idempotency-Key, which stays when its execution is deleted
# The memory that an accepted execution takes at most from its claim to its end, beside output: 2 KiB and its result.
# This amount is reserved for each until its end; submissions and output cannot use it.
RESERVED_BYTES = 20 * 1024
LEFT_MILLISECONDS = 200  # lifetime of the cached number of bytes of output that Redis may still take
LOG_BYTES = 32 * 2**20  # of a security log

AGEING_SECONDS = 60  # of age, after which an execution's priority rises by one
MOST_RECOUNTED = 10_000  # records of a tenant, whose bytes one step of the janitor sums up
# The counted amounts of each ended execution, in this order; times in microseconds, so that sums are exact.
USAGE = (
    "executions", "wall_microseconds", "cpu_microseconds", "output_bytes", "artifact_bytes", "tool_calls",
    "tokens_returned", "tokens_withheld",
)  # fmt: skip
USAGE_DAYS = 400  # for which usage is kept
USAGE_SECONDS = (USAGE_DAYS + 1) * 86400
MOST_USAGE_SERIES = 1000  # keys and environments of a tenant's day that are counted separately


def amounts_of(result: Result) -> tuple[int, ...]:
    """The amounts used by an execution with this result."""
    used = result.usage
    return (
        1,
        microseconds(used.wall_seconds if used else 0.0),
        microseconds((used.cpu_seconds if used else 0.0) or 0.0),
        result.stdout_bytes + result.stderr_bytes,
        sum(artifact.size for artifact in result.artifacts),
        len(result.tool_calls),
    )


def microseconds(seconds: float) -> int:
    """Seconds as a whole number of microseconds."""
    return max(0, round(seconds * 1_000_000))
