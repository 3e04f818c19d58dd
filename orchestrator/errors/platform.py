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
    """The container engine or runtime cannot give the sandbox that was asked for."""

    code = "runtime_unavailable"
    reason = Reason.RUNTIME_UNAVAILABLE


class WeakContainer(RuntimeUnavailable):
    """The container that was made is weaker than what was asked for; it was not used."""

    code = "weak_container"


class SpecificationRejected(PlatformError):
    """The stored specification's signature or bounds do not hold; it was not run."""

    code = "specification_rejected"


class SpecificationTampered(SpecificationRejected):
    """The stored specification is not the one the API sealed; it was not run."""


class StaleAttempt(PlatformError):
    """Another attempt owns this execution now; this one's result is refused."""

    code = "stale_attempt"


class LeaseLost(StaleAttempt):
    """This worker was not heard of for as long as its lease; others may have its executions by now."""

    code = "lease_lost"


class HandedBack(PlatformError):
    """The worker was told to end before the program did."""

    code = "handed_back"
    reason = Reason.WORKER_LOST


class FrameError(PlatformError):
    """The sandbox sent bytes that no agent of ours sends."""

    code = "frame_violation"
