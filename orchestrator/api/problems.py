"""Errors of the HTTP API as RFC 9457 problem documents, without tracebacks or paths."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from orchestrator import metrics
from orchestrator.api.security_reporting import reporting_task
from orchestrator.errors import (
    IdempotencyConflict,
    IsolationUnavailable,
    LimitAboveQuota,
    MalformedBody,
    MayflyError,
    Mistake,
    NotAllowed,
    NotFound,
    PayloadTooLarge,
    PolicyViolation,
    QuotaExceeded,
    RateLimited,
    RequestError,
    ToolCallFailed,
    Unauthenticated,
    Unavailable,
    UnsupportedContentEncoding,
    ValidationFailed,
)
from orchestrator.models import Finding

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "https://mayfly.dev/problems/"
BOUNDS = frozenset({"ge", "gt", "le", "lt", "min_length", "max_length"})  # pydantic's names of bounds
log = structlog.get_logger()


class MethodNotAllowed(RequestError):
    """This path does not support that method."""

    code = "method_not_allowed"
    status = 405


class NotReady(Unavailable):
    """The service cannot run executions now; the member 'checks' names the parts that fail."""

    code = "not_ready"


class FieldError(BaseModel):
    """An invalid field, and the mistake in it."""

    field: str
    message: str
    bound: float | None = Field(None, description="The number that the value exceeds or falls short of, if any.")


class Problem(BaseModel):
    """The body of every 4xx and 5xx answer: a problem document (RFC 9457)."""

    type: str = Field(description="A URI that names the kind of problem; ends in the code.")
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; for comparison by programs.")
    request_id: str
    bound: float | None = Field(
        None, description="The number that the request exceeds or falls short of, if any; the detail names its unit."
    )
    quota: str | None = Field(
        None, description="With quota_exceeded: the name of the quota; with not_allowed_by_…: the field."
    )
    quota_of: str | None = Field(None, description="The owner of the bound: `tenant`, `key` or `service account`.")
    used: float | None = Field(None, description="With quota_exceeded and 429: the part of `bound` that is in use.")
    errors: list[FieldError] | None = Field(None, description="With 422: each invalid field.")
    findings: list[Finding] | None = Field(None, description="With policy_violation: the policy's findings.")
    omitted: int | None = Field(None, description="With policy_violation: the number of further findings.")
    valid_parameters: list[str] | None = Field(None, description="With tool_arguments_invalid: the tool's parameters.")
    did_you_mean: list[str] | None = Field(None, description="With a failed call of a tool: similar existing names.")


# The field that these errors are about; they have no list of mistakes.
FIELDS: dict[type[MayflyError], str] = {
    IsolationUnavailable: "isolation",
    IdempotencyConflict: "Idempotency-Key",
}
HTTP_ERRORS: dict[int, type[RequestError]] = {
    404: NotFound,
    405: MethodNotAllowed,
    413: PayloadTooLarge,
    400: MalformedBody,
}


def problem_of(error: MayflyError, request_id: str) -> dict[str, object]:
    """The problem document of a Mayfly error."""
    title = (type(error).__doc__ or "").strip().splitlines()[0]
    detail = error.message if error.status != 500 else "An internal error of Mayfly occurred; it has been logged."
    problem: dict[str, object] = {
        "type": TYPE_BASE + error.code,
        "title": title,
        "status": error.status,
        "detail": detail,
        "code": error.code,
        "request_id": request_id,
    }
    if error.bound is not None:
        problem["bound"] = error.bound
    if isinstance(error, ValidationFailed):
        problem["errors"] = [
            {name: value for name, value in mistake._asdict().items() if value is not None} for mistake in error.errors
        ]
    elif field := FIELDS.get(type(error)):
        problem["errors"] = [{"field": field, "message": error.message}]
    if isinstance(error, QuotaExceeded | NotAllowed | LimitAboveQuota):
        problem |= {"quota": error.quota, "quota_of": error.of}
    if isinstance(error, QuotaExceeded):
        problem["used"] = error.used
    if isinstance(error, ToolCallFailed):
        found = error.failure.model_dump(include={"valid_parameters", "did_you_mean"}, mode="json")
        problem |= {name: value for name, value in found.items() if value}
    if isinstance(error, PolicyViolation):
        problem |= error.report.model_dump(include={"findings", "omitted"})
    return problem


def answer(
    request: Request,
    error: MayflyError,
    headers: dict[str, str] | None = None,
    extensions: dict[str, object] | None = None,
) -> JSONResponse:
    """The HTTP answer for a Mayfly error; counts the refusal. ``extensions`` are further members of the problem."""
    metrics.refused.labels(error.code).inc()
    all_headers = dict(headers or {})
    if isinstance(error, Unavailable):
        all_headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, RateLimited):
        all_headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthenticated):
        all_headers["WWW-Authenticate"] = _challenge(request, error.wrong_key and "authorization" in request.headers)
    if isinstance(error, UnsupportedContentEncoding):
        all_headers["Accept-Encoding"] = "identity"
    problem = {**problem_of(error, request.state.request_id), **(extensions or {})}
    return JSONResponse(problem, error.status, all_headers, MEDIA_TYPE)


def _challenge(request: Request, had_token: bool) -> str:
    """The challenge to a client without a valid credential (RFC 6750, 3.1; RFC 9068, 4)."""
    found: str = getattr(request.state, "challenge", "Bearer")
    return f'{found}{"," if "=" in found else ""} error="invalid_token"' if had_token else found


def headers_and_body(error: MayflyError) -> bytes:
    """The HTTP answer for an error, after its status line; then the connection is closed."""
    request_id = secrets.token_hex(8)
    body = json.dumps(problem_of(error, request_id)).encode()
    headers = {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "X-Request-Id": request_id,
        "Connection": "close",
    }
    if isinstance(error, RateLimited | Unavailable):
        headers["Retry-After"] = str(error.retry_after_seconds)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{head}\r\n".encode() + body


def from_validation(error: RequestValidationError) -> ValidationFailed:
    """Mayfly's error for FastAPI's errors about a query, header or path, without the client's values."""
    return ValidationFailed(
        [Mistake(_field(item["loc"]), str(item["msg"]), bound_of(item.get("ctx"))) for item in error.errors()]
    )


def bound_of(context: Mapping[str, Any] | None) -> float | None:
    """The bound in the context of one of pydantic's errors, if there is one."""
    found = [value for name, value in (context or {}).items() if name in BOUNDS and isinstance(value, int | float)]
    return found[0] if found else None


def install(app: FastAPI) -> None:
    """Register the exception handlers."""

    @app.exception_handler(MayflyError)
    def ours(request: Request, error: MayflyError) -> JSONResponse:
        if error.status >= 500 and not isinstance(error, Unavailable | ToolCallFailed):
            log.error("request.failed", code=error.code, detail=error.message)
        answered = answer(request, error)
        answered.background = reporting_task(request, error)
        return answered

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(request, from_validation(error))

    @app.exception_handler(ClientDisconnect)
    def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return answer(request, MalformedBody("The connection ended before its body."))  # only for the count

    @app.exception_handler(HTTPException)
    def framework(request: Request, error: HTTPException) -> JSONResponse:
        kind = HTTP_ERRORS.get(error.status_code, RequestError)
        return answer(request, kind(), dict(error.headers or {}))

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("request.crashed", error=type(error).__name__, exc_info=error)
        return answer(request, MayflyError())


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location[1:]) or str(location[0])
