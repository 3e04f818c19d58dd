"""Every exception of the SDK; ``ExecutionFailed``, which has an execution, is in :mod:`mayfly.results.execution`.

::

    MayflyError
    ├── InvalidConfiguration     the client's URL, API key or proxy cannot be used; also a ValueError
    ├── ApiUnreachable           no complete answer arrived
    ├── StreamBroken             a stream breaks repeatedly before its execution has ended
    ├── NotMayfly                the server is not a Mayfly API
    ├── WaitTimeout              the execution has not ended in time; also a TimeoutError
    ├── ExecutionFailed          raised by Execution.check() alone: how a program ended is a result, not an exception
    ├── UnsafeArtifact           an artifact has an unsafe name or wrong bytes; nothing was saved
    └── Refused                  the API answered with a problem document (RFC 9457)
        ├── InvalidRequest       400, 413, 422 and other 4xx: a mistake in the request
        │   └── PolicyViolation  422: the static policy refuses the program
        ├── Unauthenticated      401: no key, or one that is not valid
        ├── Forbidden            403: a scope that the key lacks
        ├── NotFound             404: also for resources of another tenant
        ├── Conflict             409: the execution's state does not allow it
        ├── RateLimited          429: a rate or the tenant's share is used up
        ├── Unavailable          502, 503, 504: temporary
        └── ServerError          other 5xx: a fault of Mayfly's

A program should compare ``code``, which is stable, or the class; ``detail`` is for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOO_MANY_REQUESTS = 429
SERVER_ERRORS = 500


class MayflyError(Exception):
    """A call failed.

    ``code`` names the kind of failure; ``status`` is the HTTP status, ``None`` where no answer came; ``errors`` are the
    (field, message) pairs of a 422; ``retry_after_seconds`` is when the API expects to accept the request;
    ``bound`` is the number that the request exceeds or falls short of, where there is one (``detail`` has its unit).
    ``problem`` is the whole problem document; with several mistakes ``problem["errors"]`` has the bound of each.
    """

    code = "bad_answer"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        errors: tuple[tuple[str, str], ...] = (),
        retry_after_seconds: float | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        self.detail = detail
        self.code = code or self.code
        self.status = status
        self.request_id = request_id
        self.errors = errors
        self.retry_after_seconds = retry_after_seconds
        self.problem = problem or {}
        self.bound = self.problem.get("bound")
        super().__init__(detail)


class InvalidConfiguration(MayflyError, ValueError):
    """The client's URL, API key or proxy cannot be used. Codes ``invalid_url`` and ``invalid_token``."""


class ApiUnreachable(MayflyError):
    """No complete answer came from the API's address."""

    code = "api_unreachable"

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(
            f"The Mayfly API at {url} does not answer ({error or type(error).__name__}). "
            "Start it with `make up` or `mayfly up`, or set MAYFLY_URL to where it runs."
        )


class StreamBroken(MayflyError):
    """The stream of an execution breaks repeatedly before the execution has ended."""

    code = "stream_broken"


class NotMayfly(MayflyError):
    """The server at the URL is not a Mayfly API."""

    code = "no_mayfly"


class WaitTimeout(MayflyError, TimeoutError):
    """An execution has not ended in time. It continues: cancel it, or wait again. ``id`` names it."""

    code = "wait_timeout"

    def __init__(self, id: str, state: str, seconds: float) -> None:
        self.id = id
        super().__init__(f"Execution {id} is still {state} after {seconds:g} s.")


class UnsafeArtifact(MayflyError):
    """An artifact's path leads out of its directory, or its bytes differ from the announced digest."""

    code = "unsafe_artifact"


class Refused(MayflyError):
    """The API refused a request; the members come from its problem document."""


class InvalidRequest(Refused):
    """A mistake in the request; ``errors`` names the fields."""


class PolicyViolation(InvalidRequest):
    """The static policy refuses the program; ``problem["findings"]`` has file, line and rule of each finding."""


class Unauthenticated(Refused):
    """There is no API key, or it is not valid."""


class Forbidden(Refused):
    """The API key lacks a scope."""


class NotFound(Refused):
    """The resource does not exist, or belongs to another tenant."""


class Conflict(Refused):
    """The execution's state does not allow it: codes ``already_finished``, ``still_running`` and others."""


class RateLimited(Refused):
    """A rate or the tenant's share is used up; ``retry_after_seconds`` is when to try again."""


class Unavailable(Refused):
    """The API cannot serve the request for now: a queue is full, or a component is unavailable."""


class ServerError(Refused):
    """A fault of Mayfly; its log has details under ``request_id``."""


PASSING = (ApiUnreachable, RateLimited, Unavailable)
"""Errors that may not recur when the call is repeated."""

BY_CODE: Mapping[str, type[Refused]] = {"policy_violation": PolicyViolation}
BY_STATUS: Mapping[int, type[Refused]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    TOO_MANY_REQUESTS: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def refused(
    asked: str, status: int, problem: Mapping[str, Any], request_id: str | None, retry_after_seconds: float | None
) -> Refused:
    """The exception for a failed request's answer. ``asked``, the URL, replaces a missing ``detail``."""
    code = str(problem.get("code") or "bad_answer")
    fallback = ServerError if status >= SERVER_ERRORS else InvalidRequest
    kind = BY_CODE.get(code) or BY_STATUS.get(status, fallback)
    listed = problem.get("errors") or ()
    return kind(
        str(problem.get("detail") or f"{asked} answered {status}."),
        code=code,
        status=status,
        request_id=problem.get("request_id") or request_id,
        errors=tuple((str(item.get("field")), str(item.get("message"))) for item in listed),
        retry_after_seconds=retry_after_seconds,
        problem=problem,
    )
