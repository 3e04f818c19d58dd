"""Mayfly's own faults, which end an execution as errored."""

from __future__ import annotations

from orchestrator.errors.base import MayflyError
from orchestrator.states import Reason


class PlatformError(MayflyError):
    """Mayfly could not run the execution."""

    reason = Reason.INTERNAL


class EnvironmentUnavailable(PlatformError):
    """This worker has no image of the environment."""

    code = "environment_unavailable"
    reason = Reason.ENVIRONMENT_UNAVAILABLE


class RuntimeUnavailable(PlatformError):
    """The container engine or runtime cannot provide the requested sandbox."""

    code = "runtime_unavailable"
    reason = Reason.RUNTIME_UNAVAILABLE


class WeakContainer(RuntimeUnavailable):
    """The container is weaker than its profile; it was not used."""

    code = "weak_container"


class SpecificationRejected(PlatformError):
    """The stored specification's signature or bounds are wrong; the program was not run."""

    code = "specification_rejected"


class SpecificationTampered(SpecificationRejected):
    """The stored specification differs from the specification that the API sealed; the program was not run."""


class StaleAttempt(PlatformError):
    """Another attempt owns this execution; the result of this attempt is refused."""

    code = "stale_attempt"


class LeaseLost(StaleAttempt):
    """This worker's lease expired; other workers may have its executions."""

    code = "lease_lost"


class HandedBack(PlatformError):
    """The worker drained before the program ended; the attempt is handed back."""

    code = "handed_back"
    reason = Reason.WORKER_LOST


class FrameError(PlatformError):
    """The sandbox sent bytes that its agent never sends."""

    code = "frame_violation"
