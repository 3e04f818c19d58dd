"""What the service cannot take for now."""

from __future__ import annotations

from orchestrator.errors.base import MayflyError


class Unavailable(MayflyError):
    """The service cannot take this now; try again a little later."""

    code = "unavailable"
    status = 503
    retry_after_seconds = 2


class QueueFull(Unavailable):
    """The queue is at its bound; nothing was accepted. Try again a little later."""

    code = "queue_full"
    retry_after_seconds = 5


class StoreUnavailable(Unavailable):
    """Redis cannot be reached; nothing was accepted. Try again a little later."""

    code = "store_unavailable"


class StoreFull(StoreUnavailable):
    """Redis is nearly full; nothing was accepted. What is past its retention goes by itself; try again later."""

    code = "store_full"
    retry_after_seconds = 15


class PolicyUnavailable(Unavailable):
    """The program could not be inspected now, which its tenant's policy asks for; nothing was accepted."""

    code = "policy_unavailable"


class BlobsUnavailable(Unavailable):
    """The blob directory cannot be written; nothing was accepted."""

    code = "blobs_unavailable"


class BlobsFull(BlobsUnavailable):
    """The blob directory's disk is nearly full; nothing was accepted. Try again later."""

    code = "blobs_full"
    retry_after_seconds = 15
