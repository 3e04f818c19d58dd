"""Requests to one API: retries, and exceptions for refusals. No I/O: see :mod:`mayfly.steps`."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from mayfly.errors import ApiUnreachable, InvalidConfiguration, NotMayfly, refused
from mayfly.steps import ConnectionLost, NotConnected, Pause, Read, Response, Send, Work

Document = Mapping[str, Any]
Token = str | Callable[[], str]

API = "/api/v1"
EXECUTIONS = f"{API}/executions"
RETRIED = frozenset({429, 502, 503, 504})
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 5.0


class Exchange:
    """Requests to the API at ``url``. Safe to share between threads and tasks.

    ``patience_seconds`` bounds the retries of a request. Raises :class:`InvalidConfiguration` for a key that cannot be
    sent in a header.
    """

    def __init__(
        self, url: str, token: Token, patience_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.url = url.rstrip("/")
        self.patience_seconds = patience_seconds
        self.now = clock
        self._reached = False  # once the API has answered, a lost connection counts as a restart and is retried
        self._token = None if isinstance(token, str) else token
        token = token if isinstance(token, str) else ""
        if not (token.isascii() and token.isprintable()):
            raise InvalidConfiguration(
                "The API key has invalid characters. Set MAYFLY_TOKEN to a key as `mayfly keys` printed it.",
                code="invalid_token",
            )
        self.headers = {"User-Agent": "mayfly"} | ({"Authorization": f"Bearer {token}"} if token else {})

    async def json(self, request: Send, *, retry: bool = True) -> Document:
        """The JSON object in a request's answer. Raises as :meth:`answer` and :meth:`document` do."""
        return self.document(await self.answer(request, retry=retry))

    def document(self, response: Response) -> Document:
        """An answer's JSON object. Raises :class:`NotMayfly` for any other answer."""
        try:
            return dict(json.loads(response.content))
        except (TypeError, ValueError) as error:
            raise NotMayfly(
                f"The server at {self.url} is not a Mayfly API. Set MAYFLY_URL to the address of a Mayfly API."
            ) from error

    async def once(self, request: Send) -> Response:
        """An answer, or a refusal, to a request that is never retried. Raises :class:`ApiUnreachable`."""
        try:
            return await (await self._signed(request))
        except ConnectionLost as error:
            raise ApiUnreachable(self.url, error) from error

    async def answer(self, request: Send, *, retry: bool = True) -> Response:
        """A successful answer. With ``retry``, lost connections and transient refusals are retried for a bounded time.

        A pause is as long as ``Retry-After`` requests; without that header, twice the previous pause. Raises
        :class:`ApiUnreachable` and :class:`mayfly.errors.Refused`.
        """
        deadline = self.now() + self.patience_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                response = await (await self._signed(request))
            except ConnectionLost as error:
                hopeless = not self._reached and isinstance(error, NotConnected)
                if hopeless or not retry or self.now() + pause > deadline:
                    raise ApiUnreachable(self.url, error) from error
            else:
                self._reached = True
                pause = _retry_after(response) or pause
                if not retry or response.status not in RETRIED or self.now() + pause > deadline:
                    self._raise_for_problem(request.path, response)
                    return response
            await Pause(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    async def _signed(self, request: Send) -> Send:
        """The request with a currently valid token, if the client has tokens that expire."""
        if self._token is None:
            return request
        return replace(request, headers={**request.headers, **await Work(self.authorization)})

    def authorization(self) -> dict[str, str]:
        """The header with a currently valid token; empty if :attr:`headers` have the token. May send a request."""
        return {} if self._token is None else {"Authorization": f"Bearer {self._token()}"}

    async def pieces(
        self, request: Send, *, retry: bool = True, deadline: float | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The body of a ``streamed`` request's answer as it arrives. A truncated body is not retried.

        ``deadline``: a time of :attr:`now` after which the body counts as truncated. Raises as :meth:`answer` does.
        """
        await self.answer(request, retry=retry)
        try:
            while piece := await Read(self._left(request.timeout_seconds, deadline)):
                yield piece
        except ConnectionLost as error:
            raise ApiUnreachable(self.url, error) from error

    def _left(self, most: float, deadline: float | None) -> float | None:
        """The seconds that a read may take; ``None`` for those of its request. Raises :class:`ConnectionLost`."""
        if deadline is None:
            return None
        if (left := deadline - self.now()) <= 0:
            raise ConnectionLost("the time for it is over")
        return min(most, left)

    def _raise_for_problem(self, path: str, response: Response) -> None:
        """Raise :class:`mayfly.errors.Refused` unless the answer is a success."""
        if response.is_success:
            return
        try:
            problem = dict(json.loads(response.content))
        except (TypeError, ValueError):
            problem = {}
        request_id = response.headers.get("x-request-id")
        raise refused(self.url + path, response.status, problem, request_id, _retry_after(response))


def _retry_after(response: Response) -> float | None:
    """Seconds until the API expects to accept the request; ``None`` without a Retry-After."""
    after = response.headers.get("retry-after", "")
    return float(after) if after.isdecimal() and after.isascii() else None


def execution_path(id: str, *rest: str) -> str:
    """The path of an execution, or of a part of it."""
    return "/".join((EXECUTIONS, quote(id, safe=""), *rest))
