"""HTTP/1.1 to one server over :mod:`http.client`: connections that are used again, proxies, whole answers.

Not here: redirects, cookies, compression and HTTP/2, which no Mayfly API uses. What is tried again, and how a refusal
becomes an exception, is :mod:`orchestrator.client.transport`.
"""

from __future__ import annotations

import json as json_codec
import select
import ssl
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlencode, urlsplit

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 5.0  # a connection unused for longer is not used again
MAX_IDLE = 20
PIECE_BYTES = 64 * 1024
PATH_CHARACTERS = "/%:@!$&'()*+,;=~"


class ConnectionLost(Exception):
    """No whole answer came."""


class NotConnected(ConnectionLost):
    """Nothing listens at the address, or what does is not who it should be."""


class Answer:
    """An answer whose body is still to come. Used in a ``with`` statement, which frees the connection."""

    def __init__(self, pool: Connections, connection: HTTPConnection, response: HTTPResponse, reusable: bool) -> None:
        self._pool, self._connection, self._response, self._reusable = pool, connection, response, reusable
        self._complete = False
        self.status = response.status
        self.headers = response.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()
        self._pool.release(self._connection, self._reusable and self._complete)

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Raises :class:`ConnectionLost` where it ends too soon."""
        try:
            while piece := self._response.read1(PIECE_BYTES):
                yield piece
        except (OSError, HTTPException) as error:
            raise ConnectionLost(_text(error)) from error
        if self._response.length:
            raise ConnectionLost(f"{self._response.length} bytes of the answer are missing")
        self._complete = True

    def read(self) -> bytes:
        """The whole body. Raises :class:`ConnectionLost`."""
        return b"".join(self.pieces())


class Connections:
    """Connections to the server of one URL. Safe to share between threads.

    Raises ``ValueError`` for what is no URL of HTTP, and for a proxy of another kind.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it does not begin with http:// or https:// and a host")
        default = 443 if parts.scheme == "https" else 80
        self._host, self._port = parts.hostname, default if parts.port is None else parts.port
        self._base, self._headers = quote(parts.path, safe=PATH_CHARACTERS), dict(headers)
        # Loading the authorities takes longer than a request; without TLS none is needed.
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        # A proxy meant for the outside must not get what is for this host.
        self._proxy = None if self._host in LOOPBACK else _proxy(parts.scheme, f"{self._host}:{self._port}")
        self._idle: list[tuple[float, HTTPConnection]] = []

    def request(
        self,
        method: str,
        path: str,
        *,
        timeout: float,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """An answer, once its headers came. ``timeout`` bounds in seconds how long the server may be silent.

        Raises :class:`ConnectionLost`.
        """
        target = self._base + quote(path, safe=PATH_CHARACTERS) + _query(params)
        every = {**self._headers, **(headers or {})}
        if json is not None:
            content = json_codec.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
            every["Content-Type"] = "application/json"
        if self._proxy is not None and self._tls is None:
            host = f"[{self._host}]" if ":" in self._host else self._host
            target = f"http://{host}:{self._port}{target}"
            every |= self._proxy[2]
        connection = self._connection()
        try:
            return self._answer(connection, method, target, content, every, timeout)
        except (OSError, HTTPException) as error:
            connection.close()
            raise ConnectionLost(_text(error)) from error
        except BaseException:
            connection.close()
            raise

    def _answer(
        self,
        connection: HTTPConnection,
        method: str,
        target: str,
        content: bytes | None,
        headers: Mapping[str, str],
        timeout: float,
    ) -> Answer:
        if connection.sock is None:
            connect(connection)
        connection.sock.settimeout(timeout)
        sent = True
        try:
            connection.request(method, target, content, dict(headers))
        except (BrokenPipeError, ConnectionResetError):
            sent = False  # a refusal may have come before all of the body was sent
        response = connection.getresponse()
        if _is_cut(response):
            response.close()
            raise ConnectionLost("the answer ends within its headers")
        return Answer(self, connection, response, sent)

    def _connection(self) -> HTTPConnection:
        while self._idle:
            try:
                since, connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if time.monotonic() - since < IDLE_SECONDS and not _is_readable(connection):
                return connection
            connection.close()
        host, port = (self._host, self._port) if self._proxy is None else self._proxy[:2]
        if self._tls is None:
            return HTTPConnection(host, port, timeout=CONNECT_SECONDS)
        secure = HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=self._tls)
        if self._proxy is not None:
            secure.set_tunnel(self._host, self._port, self._proxy[2])
        return secure

    def release(self, connection: HTTPConnection, reusable: bool) -> None:
        """Keep a connection for the next request, or close it."""
        if reusable and connection.sock is not None and len(self._idle) < MAX_IDLE:
            self._idle.append((time.monotonic(), connection))
        else:
            connection.close()

    def close(self) -> None:
        """Close the connections that nothing uses."""
        while self._idle:
            self._idle.pop()[1].close()


def connect(connection: HTTPConnection) -> None:
    """Connect within ``CONNECT_SECONDS``. Raises :class:`NotConnected`; ``TimeoutError`` from a slow network."""
    try:
        connection.connect()
    except TimeoutError:
        raise
    except OSError as error:
        raise NotConnected(_text(error)) from error


def _is_readable(connection: HTTPConnection) -> bool:
    """Whether an idle connection has something to read, which can only be its end."""
    poller = select.poll()
    poller.register(connection.sock, select.POLLIN)
    return bool(poller.poll(0))


def _is_cut(response: HTTPResponse) -> bool:
    """Whether headers are missing: :mod:`http.client` takes those that came before the end for all there are."""
    framed = response.chunked or response.length is not None
    return not framed and response.version == 11 and "close" not in response.headers.get("Connection", "").lower()


def _proxy(scheme: str, address: str) -> tuple[str, int, dict[str, str]] | None:
    """Host, port and headers of the proxy that the environment variables name. Raises ``ValueError``."""
    from base64 import b64encode  # not above: most APIs are on this host
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or proxy_bypass(address):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"that its proxy, {parts.scheme}://, can be asked for: only http:// is supported")
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Proxy-Authorization"] = f"Basic {b64encode(pair).decode()}"
    return parts.hostname, parts.port or 80, headers


def _query(params: Mapping[str, Any] | None) -> str:
    if not params:
        return ""
    written = {name: str(value).lower() if isinstance(value, bool) else value for name, value in params.items()}
    return "?" + urlencode(written, doseq=True)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
