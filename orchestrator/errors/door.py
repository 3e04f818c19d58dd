"""Refusals at the front door: errors of a connection or a body, for any request."""

from __future__ import annotations

from orchestrator.errors.requests import RateLimited, RequestError
from orchestrator.errors.unavailable import Unavailable


class MalformedRequest(RequestError):
    """The bytes received are not an HTTP/1.1 request; the connection is closed."""

    code = "malformed_request"
    status = 400


class UriTooLong(RequestError):
    """The URL is longer than this service accepts."""

    code = "uri_too_long"
    status = 414


class HeadersTooLarge(RequestError):
    """The headers are larger, or more numerous, than this service accepts."""

    code = "headers_too_large"
    status = 431


class TooSlow(RequestError):
    """The request arrived too slowly; send it again, faster."""

    code = "request_timeout"
    status = 408


class TooManyFromAddress(RateLimited):
    """This address has reached its limit of open connections; close some, or send requests over the open ones."""

    code = "too_many_connections"
    retry_after_seconds = 5


class HostRefused(RequestError):
    """Agents are not served under this host name."""

    code = "host_refused"
    status = 421


class OriginRefused(RequestError):
    """Pages of this origin are not served here."""

    code = "origin_refused"
    status = 403


class TooManyCalls(RateLimited):
    """This tenant has reached its limit of agents' requests in progress; wait until a request has ended."""

    code = "too_many_calls"
    retry_after_seconds = 2


class TooManyConnections(Unavailable):
    """The service has reached its limit of open connections; try again a little later."""

    code = "connections_full"


class TooManyUploads(RateLimited):
    """This tenant has reached its limit of concurrent large uploads; wait until an upload has finished."""

    code = "too_many_uploads"
    retry_after_seconds = 2


class UploadsFull(Unavailable):
    """The service has reached its limit of concurrent large uploads; try again a little later."""

    code = "uploads_full"


class TooManyAnswers(RateLimited):
    """This tenant has reached its limit of concurrent large answers; read an answer to its end first."""

    code = "too_many_answers"
    retry_after_seconds = 2


class AnswersFull(Unavailable):
    """The service has reached its limit of concurrent large answers; try again a little later."""

    code = "answers_full"
