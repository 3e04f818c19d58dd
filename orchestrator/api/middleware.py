"""The outermost layer of the API: ids of requests, bounds of bodies, metrics of answers. Plain ASGI, without a task for
each request.

An answer that is sent before the request's body was read reaches the client only if the rest of the body is read too:
closing a connection with unread bytes resets the connection, and the client loses the answer. So after such an answer
the rest is read and discarded, within bounds of bytes and seconds, and then the connection is closed.

HEAD is answered like GET, without the body: the routes receive GET, and a stream ends after its headers.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import IO, Any

from fastapi import FastAPI, Request
from starlette.types import Message, Receive, Scope, Send

from orchestrator import metrics
from orchestrator.api.deprecation import headers_of
from orchestrator.api.door.answers import LARGE_BYTES, PIECE_BYTES, STORED_BYTES, read_pieces, split, stored
from orchestrator.api.door.floods import Floods
from orchestrator.api.door.uploads import Traffic
from orchestrator.api.problems import answer
from orchestrator.api.security_reporting import source_of
from orchestrator.audit import ORIGIN, Origin
from orchestrator.errors import BlobsUnavailable, MayflyError, PayloadTooLarge, TooSlow
from orchestrator.queries.wakeups import Wakeups
from orchestrator.settings import Settings

MAX_REQUEST_ID = 128
KEEP_ALIVE_SECONDS = 75
DRAIN_SECONDS = 10.0
SLOW_SECONDS = 1.0  # in which a reader takes an answer that is not on disk
DRAIN_BYTES = 256 * 2**20  # of a refused body; reading it is cheap, and a client that sends more loses the refusal
LARGE_DIGITS = len(str(LARGE_BYTES))
MAX_DIGITS = len(str(2**64))  # of a length; the parser accepts any number of zeros before it, which Python does not
# For browsers: answers are neither rendered as pages, sniffed, framed nor cached, and send no referrer. A route may set
# other values for its own answers.
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
ONLY_TLS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
SHORT_BYTES = 64 * 1024  # an unread rest up to here is always read, so that the connection can be reused


class Edge:
    """The outermost layer of the API."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.app = app
        self.wakeups: Wakeups = app.state.parts.wakeups
        self._traffic: Traffic = app.state.parts.traffic
        self.floods: Floods = app.state.parts.floods
        self._settings, self._body_bytes = settings, settings.body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        marks = {"X-Request-Id": request_id}
        ORIGIN.set(Origin(scope["client"][0] if scope.get("client") else None, request_id))
        scope.setdefault("state", {}).update(request_id=request_id, answer_headers=marks)
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}  # uvicorn's own scope keeps HEAD, so uvicorn sends no body
        began = time.monotonic()
        body = _Bounded(receive, scope, self._settings)
        answered = _Answer(send, body, marks, scope, self._traffic, headers_only=method == "HEAD")
        try:
            if body.declared_bytes > self._body_bytes:
                raise body.too_large()
            await self.app(scope, body, answered.send)
            await answered.send_stored()
        except _Refused as refused:
            self.floods.note(source_of(Request(scope)), refused.error.code)
            if not answered.started:
                response = answer(Request(scope), refused.error, {"Connection": "close"})
                await response(scope, receive, answered.send)
        finally:
            answered.close()
            route = getattr(scope.get("route"), "path", "unmatched")
            metrics.http_requests.labels(method, route, answered.status).inc()
            metrics.http_seconds.labels(method, route).observe(time.monotonic() - began)


class _Answer:
    """A ``send`` that adds headers to the answer, and reads the rest of the request's body before the answer ends.

    An answer over ``STORED_BYTES`` is stored on disk until its route has ended (:meth:`send_stored`); of a smaller
    answer only what a slow reader has not read yet. A large answer counts towards the tenant's bound.
    """

    def __init__(
        self,
        send: Send,
        body: _Bounded,
        marks: dict[str, str],
        scope: Scope,
        traffic: Traffic,
        *,
        headers_only: bool,
    ) -> None:
        self._send, self._body, self._marks, self._headers_only = send, body, marks, headers_only
        self._scope, self._state, self._traffic = scope, scope["state"], traffic
        self._has_tls = scope.get("scheme") == "https"
        self._note_draining: Callable[[], None] = self._state.get("note_draining", lambda: None)
        self._counted: ExitStack | None = None  # for a large answer
        self._file: IO[bytes] | None = None
        self.status, self.started, self._ended = 500, False, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif self._ended or self._file is not None:
            return
        elif len(message.get("body", b"")) > STORED_BYTES and not message.get("more_body", False):
            await self._store(message)
        elif message.get("more_body", False):
            await self._send_pieces(message)
        elif len(message.get("body", b"")) > PIECE_BYTES:
            await self._send_or_store(message)
        else:
            await self._end(message)

    async def send_stored(self) -> None:
        """Send the part that is on disk."""
        if self._file is None:
            return
        async for piece in read_pieces(self._file):
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._end({"type": "http.response.body"})

    def close(self) -> None:
        """Release the answer's resources."""
        if self._file is not None:
            self._file.close()
        if self._counted is not None:
            self._counted.close()

    async def _send_or_store(self, message: Message) -> None:
        """Send an answer; store the part that a slow reader has not taken after a moment."""
        body, sent = message["body"], 0
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                for piece in split(body):
                    await self._send({**message, "body": piece, "more_body": True})  # waits only before it writes
                    sent += len(piece)
        except TimeoutError:
            await self._store({**message, "body": body[sent:]})
            return
        await self._end({"type": "http.response.body"})

    async def _store(self, message: Message) -> None:
        try:
            self._file = await stored(message["body"], self._traffic.directory)
        except BlobsUnavailable:  # send from memory: executions must be readable while the disk is full
            await self._send_pieces({**message, "more_body": True})
            await self._end({"type": "http.response.body"})

    async def _send_pieces(self, message: Message) -> None:
        for piece in split(message.get("body", b"")):
            await self._send({**message, "body": piece, "more_body": True})

    async def _start(self, message: Message) -> None:
        headers = list(message.get("headers", ()))
        names = dict(headers)  # in lower case, as Starlette writes them
        length = names.get(b"content-length", b"")
        if len(length) >= LARGE_DIGITS and int(length) > LARGE_BYTES and not self._headers_only:
            try:
                tenant = getattr(self._state.get("principal"), "tenant", "")
                self._counted = ExitStack()
                self._counted.enter_context(self._traffic.answers.counted(tenant))
            except MayflyError as error:
                raise _Refused(error) from error
        self.status, self.started = message["status"], True
        route = getattr(self._scope.get("route"), "path_format", "")
        marks = self._marks | headers_of(self._scope["method"], route, self._state.get("fields", ()))
        headers += [(name.lower().encode(), value.encode()) for name, value in marks.items()]
        headers += [pair for pair in SAFE_HEADERS if pair[0] not in names]
        if self._has_tls:
            headers.append(ONLY_TLS)
        if b"connection" not in names:
            if self._body.rest_is_long:
                headers.append((b"connection", b"close"))
            else:
                headers.append((b"keep-alive", b"timeout=%d" % KEEP_ALIVE_SECONDS))
        await self._send({**message, "headers": headers})
        if self._headers_only and b"content-length" not in names:
            await self._end({"type": "http.response.body"})  # a stream: its route ends as on a disconnection

    async def _end(self, message: Message) -> None:
        self._ended = True
        if self._body.unread:
            await self._send({**message, "more_body": True})
            self._note_draining()
            await self._body.drain()
            message = {"type": "http.response.body"}
        await self._send(message)


class _Refused(BaseException):
    """A refusal, raised through FastAPI, whose handlers treat every ``Exception`` as a malformed body."""

    def __init__(self, error: MayflyError) -> None:
        super().__init__(error)
        self.error = error


class _Bounded:
    """A ``receive`` that bounds the bytes of a body, and the time of their arrival."""

    def __init__(self, receive: Receive, scope: Scope, settings: Settings) -> None:
        self._receive, self._settings = receive, settings
        self._bytes, self._waited_seconds = 0, 0.0
        self.declared_bytes, chunked, self._expects = 0, False, False
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                self.declared_bytes = int(value) if len(value) <= MAX_DIGITS else 2**64
            elif name == b"transfer-encoding":
                chunked = True
            elif name == b"expect":
                self._expects = True
        self.unread = chunked or self.declared_bytes > 0
        self._long = chunked or self._expects or self.declared_bytes > SHORT_BYTES

    @property
    def rest_is_long(self) -> bool:
        """Whether the unread rest may be too long to reuse the connection."""
        return self.unread and self._long

    async def __call__(self) -> Any:
        self._expects = False  # uvicorn now asks the client to continue with the body
        message = await (self._receive_in_time() if self.unread else self._receive())
        self.unread = message["type"] == "http.request" and message.get("more_body", False)
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._settings.body_bytes:
            raise self.too_large()
        return message

    def too_large(self) -> _Refused:
        """The error for a body beyond the bound."""
        most = self._settings.body_bytes
        message = f"The body has more than the {most} bytes that this service accepts."
        return _Refused(PayloadTooLarge(message, bound=most))

    async def _receive_in_time(self) -> Any:
        began, rate = time.monotonic(), self._settings.body_rate
        allowed_seconds = self._settings.body_seconds + self._bytes / rate
        try:
            async with asyncio.timeout(allowed_seconds - self._waited_seconds):
                message = await self._receive()
        except TimeoutError as error:
            self.unread = False  # the rest is not read either
            detail = (
                f"Only {self._bytes} bytes of the body arrived within {allowed_seconds:.0f} s; "
                f"send at least {rate:g} bytes a second."
            )
            raise _Refused(TooSlow(detail, bound=rate)) from error
        self._waited_seconds += time.monotonic() - began
        return message

    async def drain(self) -> None:
        """Read and discard the rest of the body, within :data:`DRAIN_BYTES` and :data:`DRAIN_SECONDS`."""
        if self._expects:  # the client awaits 100 Continue, and sends no body
            return
        left = DRAIN_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self.unread and left > 0:
                    message = await self._receive()
                    self.unread = message["type"] == "http.request" and message.get("more_body", False)
                    left -= len(message.get("body", b""))


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and 0 < len(value) <= MAX_REQUEST_ID:
            text: str = value.decode("latin-1")
            if text.isascii() and text.isprintable():
                return text
    return secrets.token_hex(8)
