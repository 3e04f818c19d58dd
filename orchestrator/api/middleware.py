"""What happens to every request: an id, a bound on its body, a count of its answer. Plain ASGI, no task per request."""

from __future__ import annotations

import secrets
import time
from typing import Any

from fastapi import FastAPI, Request
from starlette.types import Message, Receive, Scope, Send

from orchestrator import metrics
from orchestrator.api.problems import answer
from orchestrator.api.wakeups import Wakeups
from orchestrator.errors import PayloadTooLarge

MAX_REQUEST_ID = 128


class Edge:
    """The outermost layer of the API."""

    def __init__(self, app: FastAPI, body_bytes: int) -> None:
        self.app = app
        self.wakeups: Wakeups = app.state.parts.wakeups
        self._body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        marks = {"X-Request-Id": request_id}
        scope.setdefault("state", {}).update(request_id=request_id, answer_headers=marks)
        began = time.monotonic()
        status = 500
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                added = [(name.lower().encode(), value.encode()) for name, value in marks.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        body = _Bounded(receive, self._body_bytes)
        try:
            if body.declared(scope) > self._body_bytes:
                raise _TooLarge()
            await self.app(scope, body, send_marked)
        except _TooLarge:
            if not started:
                error = PayloadTooLarge(f"The body has more than the {self._body_bytes} bytes this service accepts.")
                response = answer(Request(scope), error, {"Connection": "close"})
                await response(scope, receive, send_marked)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            metrics.http_requests.labels(scope["method"], route, status).inc()
            metrics.http_seconds.labels(scope["method"], route).observe(time.monotonic() - began)


class _TooLarge(BaseException):
    """Passes through the framework, whose handlers take every ``Exception`` for a malformed body."""


class _Bounded:
    """A ``receive`` that counts."""

    def __init__(self, receive: Receive, bound: int) -> None:
        self._receive, self._left = receive, bound

    def declared(self, scope: Scope) -> int:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value)
        return 0

    async def __call__(self) -> Any:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _TooLarge()
        return message


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and 0 < len(value) <= MAX_REQUEST_ID:
            text: str = value.decode("latin-1")
            if text.isascii() and text.isprintable():
                return text
    return secrets.token_hex(8)
