"""A request and its answer, over a separate connection to checked addresses, within bounds."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import httpcore2

from orchestrator.broker.http.bodies import Unpacker
from orchestrator.broker.http.failures import CallFailed, detail
from orchestrator.broker.http.requests import Request
from orchestrator.broker.http.resolving import PinnedBackend

MOST_HEADERS = 100  # of an answer; their bytes are bounded by h11, at 100 KiB


@dataclass(frozen=True)
class Answer:
    """An answer with its complete body, decompressed. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers.items())


async def exchange(request: Request, addresses: tuple[str, ...], tls: ssl.SSLContext, most_bytes: int) -> Answer:
    """Send a request to one of its host's ``addresses``. Raises :class:`CallFailed`.

    The caller bounds the time. There is no pool: a connection serves one request, so no tenant's request travels on a
    connection whose address was checked for another host.
    """
    origin = request.origin
    url = httpcore2.URL(
        scheme=origin.scheme.encode(), host=origin.host.encode(), port=origin.port, target=request.target
    )
    backend = PinnedBackend(addresses)
    connection = httpcore2.AsyncHTTPConnection(url.origin, tls, network_backend=backend)
    try:
        sent = httpcore2.Request(request.method, url, headers=request.sent_headers(), content=request.body or b"")
        response = await connection.handle_async_request(sent)
        return await _read(response, most_bytes)
    except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
        raise CallFailed("tool_failed", f"No connection to {origin}: {detail(error)}") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
        raise CallFailed("tool_failed", f"{origin} did not answer with valid HTTP: {detail(error)}") from error
    finally:
        await connection.aclose()
        await backend.aclose()


async def _read(response: httpcore2.Response, most_bytes: int) -> Answer:
    if len(response.headers) > MOST_HEADERS:
        raise CallFailed("tool_result_too_large", f"The answer has more than {MOST_HEADERS} headers.")
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    unpacker = Unpacker(headers, most_bytes)
    async for piece in response.aiter_stream():
        unpacker.add(piece)
    return Answer(response.status, headers, unpacker.finish())
