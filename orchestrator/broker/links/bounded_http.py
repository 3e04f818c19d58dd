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
    """A wrapper of a transport that bounds every answer by its exchange. Event streams of the connection itself
    stay open: the library bounds each of their events, and their pace is bounded.
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
            stays_open = not exchange.ends and response.headers.get("content-type", "").lower().startswith(EVENTS)
            response.stream = _BoundedStream(stream, exchange, Pace(UNASKED_BYTES) if stays_open else None)
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    """An answer that counts for its exchange, or a stream with a pace."""

    def __init__(self, stream: httpx2.AsyncByteStream, exchange: Exchange, pace: Pace | None) -> None:
        self._stream, self._exchange, self._pace = stream, exchange, pace

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._stream:
                if self._pace is not None:
                    await self._pace.keep(len(piece))
                else:
                    self._count(len(piece))
                yield piece
        except httpx2.TransportError as error:
            self._exchange.broken = _detail(error)
            raise _Cut from error

    def _count(self, count: int) -> None:
        self._exchange.received_bytes += count
        if self._exchange.received_bytes > self._exchange.most_bytes:
            self._exchange.too_large = True
            raise _Cut

    async def aclose(self) -> None:
        await self._stream.aclose()


def _detail(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:LONGEST_DETAIL]
