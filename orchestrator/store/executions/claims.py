"""What goes into records and comes out of them beside executions: bounds, envelopes, claims and their holders."""

from __future__ import annotations

from typing import NamedTuple


class Envelope(NamedTuple):
    """Where the id goes when a record is written: the list, and the set of all such lists."""

    queue_key: str
    queues_key: str


class QueueBounds(NamedTuple):
    """Most executions that may be queued: all, and of one tenant; and most bytes of its executions, queued or not."""

    all: int
    tenant: int
    tenant_bytes: int | None = None


class Idempotency(NamedTuple):
    """An Idempotency-Key and the digest of the body it came with."""

    key: str
    digest: str


class Claim(NamedTuple):
    """One attempt's right to run an execution that has waited ``queue_seconds``; ``attempt`` fences all it writes."""

    id: str
    attempt: int
    spec: bytes
    signature: str
    queue_seconds: float = 0.0


class Holder(NamedTuple):
    """Which worker has an execution, in which attempt, and since when by Redis's clock."""

    worker: str
    attempt: int
    since: float
