"""One request of the protocol: its message, the call, and the answer.

The library would create a transport for each request: tasks and streams, which cost more than the call. Here the
handler runs in the request's own task. A second task waits for the client's disconnection, which cancels the call, and
sends comments through a silent stream so that proxies keep the connection. The answer is JSON, or a stream of events if
notifications precede the result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import anyio
from mcp.server.connection import Connection
from mcp.server.lowlevel.server import Server
from mcp.server.runner import modern_error_data, serve_one
from mcp.server.streamable_http import check_accept_headers
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    ProgressToken,
    RequestId,
)
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Send

from orchestrator.mcp.answers import INTERNAL
from orchestrator.mcp.arguments import MOST_ID, MOST_ID_BITS, is_short
from orchestrator.mcp.server import report_crash
from orchestrator.tools.checking.sizes import has_more_values

SILENT_SECONDS = 15.0
MOST_VALUES = 100_000  # of a message, which is parsed and checked in the event loop
TRANSPORT = TransportContext(kind="streamable-http", can_send_request=False)
STREAM: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
Message = JSONRPCRequest | JSONRPCNotification | JSONRPCResponse | JSONRPCError
Found = dict[str, Any] | ErrorData


class Answer:
    """The answer to a request: JSON, or a stream of events from the first notification or a long silence on."""

    def __init__(self, send: Send, id: RequestId, token: ProgressToken | None) -> None:
        self._send, self.id, self.token = send, id, token
        self._lock = anyio.Lock()  # several tasks send: the handler, its progress, the watcher
        self._is_stream = False

    async def event(self, text: bytes, is_last: bool = False) -> None:
        """Send a part of the stream; the first part starts the stream."""
        async with self._lock:
            if not self._is_stream:
                self._is_stream = True
                await self._send({"type": "http.response.start", "status": 200, "headers": STREAM})
            await self._send({"type": "http.response.body", "body": text, "more_body": not is_last})

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        """Send a notification of this request."""
        more = {} if params is None else {"params": dict(params)}
        await self.event(_event({"jsonrpc": "2.0", "method": method, **more}))

    async def end(self, found: Found, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send the result, or the error; ``status`` and ``headers`` apply to answers in JSON."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": self.id}
        if isinstance(found, ErrorData):
            message["error"] = found.model_dump(mode="json", by_alias=True, exclude_none=True)
        else:
            message["result"] = found
        if self._is_stream:
            await self.event(_event(message), is_last=True)
            return
        body, more = _json(message), [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *more]
        await self._send({"type": "http.response.start", "status": status, "headers": head})
        await self._send({"type": "http.response.body", "body": body})


async def found_by(
    server: Server[Any], connection: Connection, request: Request, message: JSONRPCRequest, answer: Answer
) -> Found:
    """The result of a request, or its error."""
    context = _Context(message.id, ServerMessageMetadata(request_context=request), answer)
    try:
        return await serve_one(
            server, context, message.method, message.params, connection=connection, lifespan_state=None
        )
    except (MCPError, ValidationError) as error:
        return modern_error_data(error)
    except Exception as error:  # of the library: the server's own are reported by its middleware
        report_crash(error, message.method)
        return ErrorData(code=INTERNAL_ERROR, message=INTERNAL)


def answer_to(message: JSONRPCRequest, send: Send) -> Answer:
    """The answer to a request."""
    return Answer(send, message.id, progress_token_from_params(message.params))


@dataclass
class _Context:
    """The library's dispatch context of one request, without requests to the client."""

    request_id: RequestId
    message_metadata: ServerMessageMetadata
    answer: Answer
    transport: TransportContext = TRANSPORT
    can_send_request: bool = False

    @cached_property
    def cancel_requested(self) -> anyio.Event:
        return anyio.Event()

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        await self.answer.notify(method, params)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        if (token := self.answer.token) is not None:
            given = {"progressToken": token, "progress": progress, "total": total, "message": message}
            known = {name: value for name, value in given.items() if value is not None}
            await self.answer.notify("notifications/progress", known)


async def watch(receive: Receive, answer: Answer, call: anyio.CancelScope) -> None:
    """Cancel the call when its client disconnects. Send a comment after each silent period."""
    while True:
        with anyio.move_on_after(SILENT_SECONDS) as silence:
            while (await receive())["type"] != "http.disconnect":
                pass
            call.cancel()
            return
        if silence.cancelled_caught:
            await answer.event(b": ping\r\n\r\n")


def unacceptable(request: Request) -> Response | None:
    """A refusal of a request whose headers are wrong."""
    if not all(check_accept_headers(request)):
        return refusal(406, INVALID_REQUEST, "Accept must name both application/json and text/event-stream.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return refusal(415, INVALID_REQUEST, "Content-Type must be application/json.")
    return None


def parsed(body: bytes) -> tuple[Message, dict[str, Any]] | Response:
    """A body's message and its members, or a refusal."""
    if has_more_values(body, MOST_VALUES):
        return refusal(400, INVALID_REQUEST, f"The body has more than {MOST_VALUES} values.")
    try:
        found = from_json(body)
    except ValueError:  # also numbers with thousands of digits, and JSON with hundreds of levels
        return refusal(400, PARSE_ERROR, "The body is not JSON.")
    if not isinstance(found, dict):
        return refusal(400, INVALID_REQUEST, "The body must be a single JSON-RPC message: batches are not supported.")
    kind: Any = JSONRPCNotification if "id" not in found else JSONRPCRequest
    if "method" not in found:
        kind = JSONRPCError if "error" in found else JSONRPCResponse
    try:
        message: Message = kind.model_validate(found)
    except ValidationError:
        return refusal(400, INVALID_REQUEST, "The body must be a JSON-RPC request, notification or answer.")
    if isinstance(message, JSONRPCRequest) and not is_short(message.id):
        bound = f"A request's id has at most {MOST_ID} characters, or is a number of {MOST_ID_BITS} bits."
        return refusal(400, INVALID_REQUEST, bound)
    return message, found


def refusal(status: int, code: int, message: str) -> Response:
    """The refusal of a message with an unknown id."""
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return Response(json.dumps(body), status_code=status, media_type="application/json")


def _event(message: Mapping[str, Any]) -> bytes:
    return b"event: message\r\ndata: " + _json(message) + b"\r\n\r\n"


def _json(message: Mapping[str, Any]) -> bytes:
    # The standard library's writer accepts lone surrogates, which a program may print.
    return json.dumps(message, separators=(",", ":")).encode()
