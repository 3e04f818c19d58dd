"""Bounds of connections: the bytes before the end of the headers, the time of requests and answers, the number.

httptools passes each complete header to :class:`Connection`, and has no bounds of its own. So complete headers are
counted as they arrive, and so are the bytes of an unfinished URL, header or trailer. A timer runs only while a
request's headers are incomplete, or an answer waits for its reader; a request that arrives at once needs no timer.

A refusal is a problem document like every error. Afterwards the connection lingers: further bytes of the client are
read and discarded within bounds, since closing a connection with unread bytes resets it and loses the answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from orchestrator import metrics
from orchestrator.api.door.addresses import network
from orchestrator.api.door.pieces import BodyPieces
from orchestrator.api.door.reader import Reader
from orchestrator.api.door.table import ConnectionTable
from orchestrator.api.problems import headers_and_body
from orchestrator.errors import (
    HeadersTooLarge,
    MalformedRequest,
    MayflyError,
    TooManyConnections,
    TooManyFromAddress,
    TooSlow,
    UriTooLong,
)

MAX_URL_BYTES = 16 * 1024
MAX_HEADER_BYTES = 64 * 1024  # of names and values together, complete or not
MAX_HEADERS = 100
MAX_PENDING_BYTES = MAX_URL_BYTES + MAX_HEADER_BYTES + 4 * MAX_HEADERS + 1024  # without progress; with separators
MAX_PIPELINED = 16  # requests behind the request in progress
HEADER_SECONDS = 10.0
WRITE_BUFFER_BYTES = 64 * 1024  # beyond that an answer waits for its reader
LINGER_SECONDS = 2.0
LINGER_BYTES = 2**20
MAX_LINGERING = 200


class _Refused(Exception):
    """A refusal, raised through the parser, which wraps the exception."""

    def __init__(self, error: MayflyError) -> None:
        super().__init__(error)
        self.error = error


class Connection(HttpToolsProtocol):
    """A client's connection, within the bounds of the connection table."""

    def __init__(self, table: ConnectionTable, **given: Any) -> None:
        super().__init__(**given)
        self._table = table
        self._network = "unknown"  # of the client
        self._address: str | None = None  # the same, while the table counts the connection
        self._refused = self._lingers = self._in_headers = self._progress = False
        self._url_bytes = self._header_bytes = self._pending_bytes = self._dropped_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        self._reader = Reader(self.loop, transport, self._table.bounds, self._cut)
        address = self._network = network(self.client[0] if self.client else "")
        try:
            self._table.enter(address, self)
        except (TooManyFromAddress, TooManyConnections) as error:
            self._refuse(error)
            return
        self._address = address
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._reader.end()
        self._leave()
        if self._lingers:
            self._table.lingering -= 1
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def evict(self) -> None:
        """Close without an answer, to free the place for another connection."""
        self._note_cut("gave_way")
        self._leave()
        self.transport.abort()

    def refuse(self, error: MayflyError) -> None:
        """End the request in progress, to free the place for an address with fewer connections."""
        self._leave()
        self._refuse(error)

    def _note_draining(self) -> None:
        """Record that the request is answered, and the rest of its body is read only so that the answer arrives."""
        if self._address is not None:
            self._table.note_waiting(self)

    def _leave(self) -> None:
        self._table.note_active(self)
        if self._address is not None:
            self._table.leave(self._address, self)
            self._address = None

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._drop(len(data))
            return
        self._unset_keepalive_if_required()
        self._progress = False
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause.error if isinstance(cause, _Refused) else MalformedRequest())
            return
        except (httptools.HttpParserError, ValueError) as error:
            reason = str(error)[:100]
            self._refuse(MalformedRequest(f"The bytes received are not an HTTP/1.1 request ({reason})."))
            return
        if self._progress:
            self._pending_bytes = 0
        else:
            self._pending_bytes += len(data)
            if self._pending_bytes > MAX_PENDING_BYTES:
                self._refuse(self._endless())
                return
        if self._in_headers or self._is_idle:
            self._await_headers()

    def _parse(self, data: bytes) -> None:
        """Parse requests. No upgrade is supported: a request for one is served as HTTP/1.1, and so is what follows."""
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"]["note_draining"] = self._note_draining
        self._in_headers, self._pieces = True, BodyPieces()
        self._url_bytes = self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url_bytes += len(url)
        if self._url_bytes > MAX_URL_BYTES:
            message = f"The URL has more than {MAX_URL_BYTES} bytes; send long values in the body."
            raise _Refused(UriTooLong(message, bound=MAX_URL_BYTES))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header, or a trailer, which is then dropped."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            message = f"The headers have more than {MAX_HEADER_BYTES} bytes together; send fewer or shorter headers."
            raise _Refused(HeadersTooLarge(message, bound=MAX_HEADER_BYTES))
        if len(self.headers) >= MAX_HEADERS:
            message = f"There are more than {MAX_HEADERS} headers; send fewer."
            raise _Refused(HeadersTooLarge(message, bound=MAX_HEADERS))
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._progress, self._in_headers = True, False
        self._table.note_active(self)
        self._stop_timer()
        if len(self.pipeline) >= MAX_PIPELINED:
            message = f"More than {MAX_PIPELINED} requests arrived before their answers; wait for answers in between."
            raise _Refused(MalformedRequest(message, bound=MAX_PIPELINED))
        if self.parser.should_upgrade() and self._has_body:  # which the parser would take for the next request
            message = "A request that asks for another protocol has no body; send it without the Upgrade header."
            raise _Refused(MalformedRequest(message))
        if sum(name == b"host" for name, _ in self.headers) > 1:  # a proxy may have read another of them
            raise _Refused(MalformedRequest("The request has more than one Host header; send one."))
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progress = True
        if (error := self._pieces.refusal(len(body))) is not None:
            raise _Refused(error)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progress = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader.wait()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():  # a closing connection still waits for its rest
            self._reader.resume()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_idle and not self._refused and self._address is not None:
            self._table.note_waiting(self)
        self._reader.begin()
        if self.transport.is_closing():
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self._cut()
        else:
            super().timeout_keep_alive_handler()

    @property
    def _has_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
            for name, value in self.headers
        )

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _await_headers(self) -> None:
        if self._is_idle and self._address is not None:
            self._table.note_waiting(self)
        if self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self._headers_late)

    def _headers_late(self) -> None:
        self._timer = None
        if self._refused or self.transport.is_closing():
            return
        if not self._in_headers and not self._pending_bytes:  # no byte of a request arrived
            self._note_cut("silent")
            self._close()
            return
        message = f"The headers were not complete within {HEADER_SECONDS:g} s; send them at once."
        self._refuse(TooSlow(message, bound=HEADER_SECONDS))

    def _endless(self) -> MayflyError:
        if self._in_headers or self._is_idle:
            message = f"One header has more than {MAX_HEADER_BYTES} bytes; send a shorter header."
            return HeadersTooLarge(message, bound=MAX_HEADER_BYTES)
        message = f"{MAX_PENDING_BYTES} bytes arrived that are neither part of the body nor its end."
        return MalformedRequest(message, bound=MAX_PENDING_BYTES)

    def _refuse(self, error: MayflyError) -> None:
        """Answer, and linger; without an answer if the client would attribute the answer to another request."""
        self._refused = True
        self._table.note_active(self)
        self._stop_timer()
        metrics.refused.labels(error.code).inc()
        if not isinstance(error, TooManyConnections):  # which other clients cause
            self._table.note(self._network, error.code)
        cycle = self.cycle
        if self._is_idle or not (self._in_headers or self.pipeline or cycle.response_started):
            self.transport.write(STATUS_LINE[error.status] + headers_and_body(error))
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if self._table.lingering >= MAX_LINGERING or not self.transport.can_write_eof():
            self._close()
            return
        self._table.lingering += 1
        self._lingers = True
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self._close)

    def _drop(self, count: int) -> None:
        self._dropped_bytes += count
        if self._dropped_bytes > LINGER_BYTES:
            self.transport.abort()

    def _close(self) -> None:
        """Close when the client has read the rest of the answer, for which the bounds on slow readers hold, too."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._reader.wait()

    def _cut(self) -> None:
        """Close a connection whose reader is too slow."""
        self._note_cut("slow_reader")
        self.transport.abort()

    def _note_cut(self, cause: str) -> None:
        metrics.connections_cut.labels(cause).inc()
        self._table.note(self._network, cause)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
