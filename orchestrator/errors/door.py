"""What the front door refuses: errors of a connection or a body, apart from what the request asks for."""

from __future__ import annotations

from orchestrator.errors.requests import RateLimited, RequestError
from orchestrator.errors.unavailable import Unavailable


class MalformedRequest(RequestError):
    """The bytes that came are no HTTP/1.1 request; the connection is closed."""

    code = "malformed_request"
    status = 400


class UriTooLong(RequestError):
    """The URL is longer than this service reads."""

    code = "uri_too_long"
    status = 414


class HeadersTooLarge(RequestError):
    """The headers are larger, or more, than this service reads."""

    code = "headers_too_large"
    status = 431


class TooSlow(RequestError):
    """The request came too slowly; send it again, faster."""

    code = "request_timeout"
    status = 408


class TooManyFromAddress(RateLimited):
    """This address has as many connections open as it may; close some, or send requests over those that are open."""

    code = "too_many_connections"
    retry_after_seconds = 5


class TooManyConnections(Unavailable):
    """The service has as many connections open as it takes; try again a little later."""

    code = "connections_full"


class TooManyUploads(RateLimited):
    """This tenant has as many large bodies on their way as it may; send one when another has arrived."""

    code = "too_many_uploads"
    retry_after_seconds = 2


class UploadsFull(Unavailable):
    """As many large bodies are on their way as this service takes; try again a little later."""

    code = "uploads_full"


class TooManyAnswers(RateLimited):
    """This tenant has as many large answers on their way as it may; read one to its end before asking for another."""

    code = "too_many_answers"
    retry_after_seconds = 2


class AnswersFull(Unavailable):
    """As many large answers are on their way as this service takes; try again a little later."""

    code = "answers_full"
