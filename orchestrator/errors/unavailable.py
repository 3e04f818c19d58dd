"""Requests that the service cannot accept for now."""

from __future__ import annotations

from orchestrator.errors.base import MayflyError


class Unavailable(MayflyError):
    """The service cannot accept the request now; try again a little later."""

    code = "unavailable"
    status = 503
    retry_after_seconds = 2


class QueueFull(Unavailable):
    """The queue is full; the submission was not accepted. Try again a little later."""

    code = "queue_full"
    retry_after_seconds = 5


class StoreUnavailable(Unavailable):
    """Redis is unavailable; the request was not accepted. Try again a little later."""

    code = "store_unavailable"


class StoreFull(StoreUnavailable):
    """Redis is nearly full; the request was not accepted. Executions expire with their retention; try again later."""

    code = "store_full"
    retry_after_seconds = 15


class FeatureOff(Unavailable):
    """The operator has switched this feature off; the request was not accepted."""

    code = "feature_off"
    retry_after_seconds = 60


class PolicyUnavailable(Unavailable):
    """The policy inspection that this tenant requires is unavailable; the submission was not accepted."""

    code = "policy_unavailable"


class BlobsUnavailable(Unavailable):
    """The blob directory cannot be written; the request was not accepted."""

    code = "blobs_unavailable"


class BlobsFull(BlobsUnavailable):
    """The disk of the blob directory is nearly full; the request was not accepted. Try again later."""

    code = "blobs_full"
    retry_after_seconds = 15
