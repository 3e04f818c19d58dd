"""Types around records: queue bounds, RQ envelopes, idempotency keys, claims and their holders."""

from __future__ import annotations

from typing import NamedTuple


class Envelope(NamedTuple):
    """The queue of a new record's id: the list, the set of all such lists, and the lane."""

    queue_key: str
    queues_key: str
    lane: str


class QueueBounds(NamedTuple):
    """The bounds on queued executions, in all and of one tenant, and on the bytes of a tenant's executions."""

    all: int
    tenant: int
    tenant_bytes: int | None = None


class Idempotency(NamedTuple):
    """An Idempotency-Key, and the digest of its request's body."""

    key: str
    digest: str


class Claim(NamedTuple):
    """One attempt's ownership of an execution that has waited ``queue_seconds``; ``attempt`` fences all its writes."""

    id: str
    attempt: int
    spec: bytes
    signature: str
    queue_seconds: float = 0.0


class Holder(NamedTuple):
    """The worker and attempt that own an execution, and the start of the ownership by Redis's clock."""

    worker: str
    attempt: int
    since: float
