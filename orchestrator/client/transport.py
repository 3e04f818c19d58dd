"""One HTTP connection pool to the API: what is tried again, and how a refusal becomes an exception."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from orchestrator.client.connections import Answer, ConnectionLost, Connections, NotConnected

Document = dict[str, Any]

ANSWER_SECONDS = 30.0
RETRIED = frozenset({429, 502, 503, 504})
MAX_PAUSE_SECONDS = 5.0


class MayflyClientError(Exception):
    """The API refused a request, or answered what this client does not understand.

    ``code`` is the problem's stable code, ``status`` the HTTP status, ``errors`` the (field, message) pairs of a 422.
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str = "bad_answer",
        status: int | None = None,
        request_id: str | None = None,
        errors: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.detail = detail
        self.code = code
        self.status = status
        self.request_id = request_id
        self.errors = errors
        super().__init__(detail)


class ApiUnreachable(MayflyClientError):
    """Nothing answers at the API's address."""

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(
            f"The Mayfly API at {url} does not answer ({error or type(error).__name__}). "
            "Start it with `make up` or `mayfly up`, or set MAYFLY_URL to where it runs.",
            code="api_unreachable",
        )


class Response(NamedTuple):
    """A whole answer."""

    status: int
    headers: Any
    content: bytes


class Transport:
    """Requests to one API. Safe to share between threads."""

    def __init__(self, url: str, token: str, patience_seconds: float) -> None:
        self.url = url.rstrip("/")
        self.patience_seconds = patience_seconds
        self._reached = False  # once it answered, silence is taken for a restart and waited out
        if not (token.isascii() and token.isprintable()):
            raise MayflyClientError(
                "The API key has characters that no key has. Set MAYFLY_TOKEN to a key as `mayfly keys` printed it.",
                code="invalid_token",
            )
        headers = {"User-Agent": "mayfly"} | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            self._connections = Connections(self.url, headers)
        except ValueError as error:
            raise MayflyClientError(
                f"{url!r} is not a URL ({error}). Set MAYFLY_URL to one such as http://127.0.0.1:8000.",
                code="invalid_url",
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def json(self, method: str, path: str, **options: Any) -> Document:
        """The JSON object a request is answered with. Options are those of :meth:`send`."""
        return self.document(self.send(method, path, **options))

    def document(self, response: Response) -> Document:
        """An answer's JSON object. Raises :class:`MayflyClientError` when it is none."""
        try:
            return dict(json.loads(response.content))
        except (TypeError, ValueError) as error:
            raise MayflyClientError(
                f"The server at {self.url} is not a Mayfly API. Set MAYFLY_URL to the address of a Mayfly API.",
                code="no_mayfly",
            ) from error

    def once(self, method: str, path: str, *, timeout: float = ANSWER_SECONDS, **options: Any) -> Response:
        """An answer, also a refusal, to a request that is never tried again. Raises :class:`ApiUnreachable`."""
        try:
            return self._once(method, path, timeout=timeout, **options)
        except ConnectionLost as error:
            raise ApiUnreachable(self.url, error) from error

    def _once(self, method: str, path: str, **options: Any) -> Response:
        with self._connections.request(method, path, **options) as answer:
            return Response(answer.status, answer.headers, answer.read())

    def send(
        self, method: str, path: str, *, retry: bool = True, timeout: float = ANSWER_SECONDS, **options: Any
    ) -> Response:
        """A successful answer. With ``retry`` a lost connection and a passing refusal are tried again for a while.

        ``timeout`` is how many seconds of silence are waited for. Options are those of :meth:`Connections.request`.
        """
        deadline = time.monotonic() + self.patience_seconds
        pause = 0.1
        while True:
            try:
                response = self._once(method, path, timeout=timeout, **options)
            except ConnectionLost as error:
                hopeless = not self._reached and isinstance(error, NotConnected)
                if hopeless or not retry or time.monotonic() + pause > deadline:
                    raise ApiUnreachable(self.url, error) from error
            else:
                self._reached = True
                after = response.headers.get("Retry-After", "")
                wait = float(after) if after.isdigit() else pause
                if not retry or response.status not in RETRIED or time.monotonic() + wait > deadline:
                    self._raise_for_problem(path, response)
                    return response
                pause = wait
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    @contextmanager
    def stream(self, path: str, *, timeout: float = ANSWER_SECONDS, **options: Any) -> Iterator[Answer]:
        """A successful answer whose body is still to come. Never tried again."""
        try:
            with self._connections.request("GET", path, timeout=timeout, **options) as answer:
                if not is_success(answer.status):
                    self._raise_for_problem(path, Response(answer.status, answer.headers, answer.read()))
                self._reached = True
                yield answer
        except ConnectionLost as error:
            raise ApiUnreachable(self.url, error) from error

    def _raise_for_problem(self, path: str, response: Response) -> None:
        """Raise :class:`MayflyClientError` unless the answer is a success."""
        if is_success(response.status):
            return
        try:
            problem = dict(json.loads(response.content))
        except (TypeError, ValueError):
            problem = {}
        errors = tuple((str(item.get("field")), str(item.get("message"))) for item in problem.get("errors", ()))
        raise MayflyClientError(
            str(problem.get("detail") or f"{self.url}{path} answered {response.status}."),
            code=str(problem.get("code") or "bad_answer"),
            status=response.status,
            request_id=problem.get("request_id") or response.headers.get("X-Request-Id"),
            errors=errors,
        )


def is_success(status: int) -> bool:
    """Whether an HTTP status is one of success."""
    return 200 <= status < 300
