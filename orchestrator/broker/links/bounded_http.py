"""HTTP to tool servers, with bounded answers, and with failures that affect only their own request.

The library reads a JSON answer of any size completely, and if one request cannot be sent, it ends the connection with
all other requests. This transport cuts an answer at the exchange's bound; a failed request gets an answer with status
502, which the library reports only to its caller. Answers are not compressed: their size in memory is that on the wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

from orchestrator.broker.links.bounds import UNASKED_BYTES, Exchange, Pace, current

LONGEST_DETAIL = 200
FAILED_STATUS = 502
EVENTS = "text/event-stream"


class _Cut(httpx2.StreamError):
    """The rest of an answer is not read; the library attributes this kind of error to the one answer."""

    def __init__(self) -> None:
        super().__init__("the answer was cut off")


class BoundedTransport(httpx2.AsyncBaseTransport):
    """A wrapper of a transport that bounds every answer by its exchange. Event streams outside of calls have no end;
    the library bounds each of their events, and the pace of the stream is bounded.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = current()
        try:
            response = await self._transport.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.LocalProtocolError) as error:
            exchange.unsent = _detail(error)
            return httpx2.Response(FAILED_STATUS, request=request)
        except httpx2.TransportError as error:
            exchange.broken = _detail(error)
            return httpx2.Response(FAILED_STATUS, request=request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            exchange.broken = "the answer is compressed against the request's headers"
            await response.aclose()
            return httpx2.Response(FAILED_STATUS, request=request)
        if response.status_code >= 400:
            exchange.refused = response.status_code
        stream = response.stream
        if isinstance(stream, httpx2.AsyncByteStream):
            endless = not exchange.is_call and response.headers.get("content-type", "").lower().startswith(EVENTS)
            response.stream = _BoundedStream(stream, exchange, None if endless else exchange.most_bytes)
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, exchange: Exchange, most_bytes: int | None) -> None:
        self._stream, self._exchange, self._most_bytes = stream, exchange, most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pace = Pace(UNASKED_BYTES)
        try:
            async for piece in self._stream:
                self._exchange.received_bytes += len(piece)
                if self._most_bytes is None:
                    await pace.keep(len(piece))
                elif self._exchange.received_bytes > self._most_bytes:
                    self._exchange.too_large = True
                    raise _Cut
                yield piece
        except httpx2.TransportError as error:
            self._exchange.broken = _detail(error)
            raise _Cut from error

    async def aclose(self) -> None:
        await self._stream.aclose()


def _detail(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:LONGEST_DETAIL]
