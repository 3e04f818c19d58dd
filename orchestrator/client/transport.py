"""One HTTP connection pool to the API: what is tried again, and how a refusal becomes an exception."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

Document = dict[str, Any]

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
RETRIED = frozenset({429, 502, 503, 504})
MAX_PAUSE_SECONDS = 5.0
NOBODY_THERE = (httpx2.ConnectError, httpx2.UnsupportedProtocol)


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


class Transport:
    """Requests to one API. Safe to share between threads."""

    def __init__(self, url: str, token: str, patience_seconds: float) -> None:
        self.url = url.rstrip("/")
        self.patience_seconds = patience_seconds
        self._reached = False  # once it answered, silence is taken for a restart and waited out
        headers = {"User-Agent": "mayfly"} | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            # A proxy meant for the outside must not get what is for this host.
            parts = urlsplit(self.url)
            local = parts.hostname in LOOPBACK
            # Without TLS no authorities are loaded, which takes longer than a request; none of them is trusted then.
            authorities = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if local and parts.scheme == "http" else True
            self.http = httpx2.Client(
                base_url=self.url,
                headers=headers,
                timeout=patient(ANSWER_SECONDS),
                trust_env=not local,
                verify=authorities,
            )
        except (ValueError, httpx2.InvalidURL) as error:
            raise MayflyClientError(
                f"{url!r} is not a URL ({error}). Set MAYFLY_URL to one such as http://127.0.0.1:8000.",
                code="invalid_url",
            ) from error

    def json(self, method: str, path: str, **options: Any) -> Document:
        """The JSON object a request is answered with. Options are those of :meth:`send`."""
        return self.document(self.send(method, path, **options))

    def document(self, response: httpx2.Response) -> Document:
        """An answer's JSON object. Raises :class:`MayflyClientError` when it is none."""
        try:
            return dict(response.json())
        except (TypeError, ValueError) as error:
            raise MayflyClientError(
                f"What answers at {self.url} is not a Mayfly API. Set MAYFLY_URL to the address of one.",
                code="no_mayfly",
            ) from error

    def send(self, method: str, path: str, *, retry: bool = True, **options: Any) -> httpx2.Response:
        """A successful answer. With ``retry`` a lost connection and a passing refusal are tried again for a while."""
        deadline = time.monotonic() + self.patience_seconds
        pause = 0.1
        while True:
            try:
                response = self.http.request(method, path, **options)
            except (httpx2.TransportError, httpx2.UnsupportedProtocol) as error:
                hopeless = not self._reached and isinstance(error, NOBODY_THERE)
                if hopeless or not retry or time.monotonic() + pause > deadline:
                    raise ApiUnreachable(self.url, error) from error
            else:
                self._reached = True
                after = response.headers.get("Retry-After", "")
                wait = float(after) if after.isdigit() else pause
                if not retry or response.status_code not in RETRIED or time.monotonic() + wait > deadline:
                    raise_for_problem(response)
                    return response
                pause = wait
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    @contextmanager
    def stream(self, path: str, **options: Any) -> Iterator[httpx2.Response]:
        """A successful answer whose body is still to come. Never tried again."""
        try:
            with self.http.stream("GET", path, **options) as response:
                raise_for_problem(response)
                self._reached = True
                yield response
        except httpx2.TransportError as error:
            raise ApiUnreachable(self.url, error) from error


def patient(seconds: float) -> httpx2.Timeout:
    """Up to ``seconds`` of silence, but a quick answer to whether anything is there at all."""
    return httpx2.Timeout(seconds, connect=CONNECT_SECONDS)


def raise_for_problem(response: httpx2.Response) -> None:
    """Raise :class:`MayflyClientError` unless the answer is a success."""
    if response.is_success:
        return
    response.read()
    try:
        problem = dict(response.json())
    except (TypeError, ValueError):
        problem = {}
    errors = tuple((str(item.get("field")), str(item.get("message"))) for item in problem.get("errors", ()))
    raise MayflyClientError(
        str(problem.get("detail") or f"{response.request.url} answered {response.status_code}."),
        code=str(problem.get("code") or "bad_answer"),
        status=response.status_code,
        request_id=problem.get("request_id") or response.headers.get("X-Request-Id"),
        errors=errors,
    )
