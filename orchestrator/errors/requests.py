"""The caller's faults: requests that cannot be served as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.errors.base import MayflyError
from orchestrator.models import PolicyReport


class RequestError(MayflyError):
    """The request cannot be served as it is."""

    code = "bad_request"
    status = 400


class Mistake(NamedTuple):
    """An invalid field; ``bound`` is the number that its value exceeds or falls short of."""

    field: str
    message: str
    bound: float | None = None


class ValidationFailed(RequestError):
    """The request has invalid fields."""

    code = "validation_failed"
    status = 422

    def __init__(self, errors: Sequence[Mistake | tuple[str, str]], code: str | None = None) -> None:
        """``errors``: mistakes, or (field, message) pairs; ``code``: a more specific code than the class's.

        The error has the bound of its only mistake.
        """
        self.errors = [Mistake(*error) for error in errors]
        if code:
            self.code = code
        message = "; ".join(f"{mistake.field}: {mistake.message}" for mistake in self.errors)
        super().__init__(message, bound=self.errors[0].bound if len(self.errors) == 1 else None)

    def counted(self) -> ValidationFailed:
        """The same refusal, with the number of mistakes instead of their list."""
        found = ValidationFailed([("body", f"has {len(self.errors)} mistakes")], self.code)
        found.status = self.status
        return found


class PolicyViolation(ValidationFailed):
    """The policy of this tenant and environment refuses the program; it was not queued."""

    code = "policy_violation"

    def __init__(self, report: PolicyReport, errors: list[tuple[str, str]]) -> None:
        """``report`` has the findings, ``errors`` the same as (field, message) pairs."""
        self.report = report
        super().__init__(errors)
        count = len(report.findings) + report.omitted
        first = ": ".join(errors[0])
        self.args = (f"The policy refuses this program: {count} finding{'s' * (count != 1)}, the first in {first}",)


class NotAllowed(ValidationFailed):
    """The request has names outside the bounds of this API key, its service account or its tenant; nothing was done."""

    code = "not_allowed_by_key"
    status = 403

    def __init__(self, errors: Sequence[Mistake | tuple[str, str]], of: str) -> None:
        """``of``: the owner of the bounds."""
        self.quota, self.of = errors[0][0], of
        super().__init__(errors, "not_allowed_by_tenant" if of == "tenant" else None)


class Unauthenticated(RequestError):
    """A valid API key is required: send it as 'Authorization: Bearer KEY'."""

    code = "unauthenticated"
    status = 401

    def __init__(self, message: str | None = None, *, wrong_key: bool = False) -> None:
        """``wrong_key``: there was a key, unknown or revoked; for the security log only."""
        self.wrong_key = wrong_key
        super().__init__(message)


class Forbidden(RequestError):
    """The API key lacks the scope that this call requires."""

    code = "forbidden"
    status = 403

    def __init__(self, message: str | None = None, *, owner: str | None = None) -> None:
        """``owner``: the other tenant that the request names, which may not exist; for the security log only."""
        self.owner = owner
        super().__init__(message)


class NotFound(RequestError):
    """No resource of this tenant has that name."""

    code = "not_found"
    status = 404

    def __init__(self, message: str | None = None, *, owner: str | None = None) -> None:
        """``owner``: the tenant that owns the requested resource; for the security log only, never for the caller."""
        self.owner = owner
        super().__init__(message)


class BlobNotFound(NotFound):
    """This tenant has no such blob."""

    code = "blob_not_found"


class AttemptNotOwner(NotFound):
    """This attempt does not own the execution: another attempt does, or the execution has ended."""

    code = "attempt_not_owner"


class AlreadyFinished(RequestError):
    """The execution has already ended and cannot be cancelled."""

    code = "already_finished"
    status = 409


class StdinRefused(RequestError):
    """The execution does not accept this chunk of standard input."""

    status = 409

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class ToolAnswerRefused(RequestError):
    """The call of a tool no longer accepts this answer."""

    status = 409

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class StillRunning(RequestError):
    """The execution has not ended: cancel it first, then delete it."""

    code = "still_running"
    status = 409


class IdempotencyConflict(RequestError):
    """This Idempotency-Key was used with another body; send a new key with a new request."""

    code = "idempotency_conflict"
    status = 422


class RateLimited(RequestError):
    """Too many requests; wait for the seconds in Retry-After."""

    code = "rate_limited"
    status = 429
    retry_after_seconds = 1

    def __init__(
        self, retry_after_seconds: int | None = None, message: str | None = None, *, bound: float | None = None
    ) -> None:
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds
        super().__init__(message, bound=bound)


class StdinFull(RateLimited):
    """The buffer of standard input is full until the program reads; the chunk was not accepted. Send it again later."""

    code = "stdin_full"


class TooManyStreams(RateLimited):
    """This tenant has reached its limit of live streams; close a stream, or wait without a stream."""

    code = "too_many_streams"
    retry_after_seconds = 5


class TenantQueueFull(RateLimited):
    """This tenant has reached its limit of queued executions; nothing was accepted. Wait until some have started."""

    code = "tenant_queue_full"
    retry_after_seconds = 5


class TenantStoreFull(RateLimited):
    """This tenant has reached its share of Redis memory; the submission was not accepted. Delete ended executions."""

    code = "tenant_store_full"
    retry_after_seconds = 15


class QuotaExceeded(RateLimited):
    """A quota of this tenant or API key is used up; nothing was accepted."""

    code = "quota_exceeded"

    def __init__(self, quota: str, of: str, bound: float, used: float, retry_after_seconds: int) -> None:
        """``of``: ``tenant`` or ``key``; bound and use in the quota's unit."""
        self.quota, self.of, self.used = quota, of, used
        advice = {
            "queued": "Wait until some have started or cancel some",
            "submissions_per_second": "Send the next more slowly",
            "stored_bytes": "Delete ended executions",
        }.get(quota, "Wait until midnight UTC, or until running executions release their reserves")
        message = f"The quota {quota!r} of this {of} is {bound:.12g}, of which {used:.12g} are in use. {advice}"
        super().__init__(retry_after_seconds, f"{message}, or ask the operator for more.", bound=bound)


class LimitAboveQuota(ValidationFailed):
    """A limit of the submission is above the quotas of this tenant or API key."""

    code = "quota_exceeded"
    quota = "limits"

    def __init__(self, errors: Sequence[Mistake], of: str) -> None:
        self.of = of
        super().__init__(errors)


class PayloadTooLarge(RequestError):
    """The request body is larger than this service accepts."""

    code = "payload_too_large"
    status = 413


class ToolResultTooLarge(PayloadTooLarge):
    """The tool's result is larger than a program may receive; the call still waits for an answer."""

    code = "tool_result_too_large"


class MalformedBody(RequestError):
    """The request body is not valid JSON in UTF-8."""

    code = "malformed_body"
    status = 400


class UnsupportedMediaType(RequestError):
    """The body must be sent as application/json."""

    code = "unsupported_media_type"
    status = 415


class UnsupportedContentEncoding(UnsupportedMediaType):
    """The body is compressed; send it uncompressed, without Content-Encoding."""

    code = "unsupported_content_encoding"


class RangeNotSatisfiable(RequestError):
    """The requested byte range lies outside the output."""

    code = "range_not_satisfiable"
    status = 416


class DigestMismatch(RequestError):
    """The bytes differ from the digest that was sent with them; nothing was stored."""

    code = "digest_mismatch"
    status = 422


class IsolationUnavailable(RequestError):
    """No live worker offers the requested isolation."""

    code = "isolation_unavailable"
    status = 422


class FeatureUnavailable(RequestError):
    """No live worker has a version with the features that this program uses."""

    code = "feature_unavailable"
    status = 422
