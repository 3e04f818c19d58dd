"""HTTP/1.1 to one server over :mod:`http.client`: reused connections, proxies, complete answers.

Not here: redirects, cookies, compression and HTTP/2, which no Mayfly API uses. Retries, and exceptions for refusals,
are in :mod:`mayfly.exchange`.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote, unquote, urlsplit

from mayfly.errors import InvalidConfiguration
from mayfly.steps import PATH_CHARACTERS, ConnectionLost, NotConnected, Send

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 5.0  # after which an idle connection is not used again
MAX_IDLE = 20
PIECE_BYTES = 64 * 1024


class Proxy(NamedTuple):
    """An HTTP proxy, and the header with its password."""

    host: str
    port: int
    headers: dict[str, str]


class Server(NamedTuple):
    """The address of an API, from its URL, and the proxy on the way. ``host`` is without brackets."""

    secure: bool
    host: str
    port: int
    base: str
    proxy: Proxy | None

    @property
    def origin(self) -> str:
        """Scheme, host and port as a URL has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.secure else ''}://{host}:{self.port}"

    @classmethod
    def at(cls, url: str) -> Self:
        """The server of a URL. Raises :class:`InvalidConfiguration` for an invalid URL of HTTP, or an unknown proxy."""
        try:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("it does not begin with http:// or https:// and a host")
            default = 443 if parts.scheme == "https" else 80
            host, port = parts.hostname, default if parts.port is None else parts.port
            # A proxy for other hosts must not get requests for this host.
            proxy = None if host in LOOPBACK else _proxy(parts.scheme, f"{host}:{port}")
        except ValueError as error:
            raise InvalidConfiguration(
                f"{url!r} is not a URL ({error}). Set MAYFLY_URL to one such as http://127.0.0.1:8000.",
                code="invalid_url",
            ) from error
        return cls(parts.scheme == "https", host, port, quote(parts.path, safe=PATH_CHARACTERS), proxy)

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context with the system's authorities; ``None`` without TLS, since loading takes a request's time."""
        return ssl.create_default_context() if self.secure else None


class Answer:
    """An answer whose body is not yet read. Used in a ``with`` statement, which frees the connection."""

    def __init__(self, pool: Connections, connection: HTTPConnection, response: HTTPResponse, reusable: bool) -> None:
        self._pool, self._connection, self._response, self._reusable = pool, connection, response, reusable
        self._complete = False
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the connection, for the next request if all of the body was read."""
        self._response.close()
        self._pool.release(self._connection, self._reusable and self._complete)

    def piece(self, timeout_seconds: float | None = None) -> bytes:
        """The next bytes of the body, ``b""`` at its end. Raises :class:`ConnectionLost` where it ends too soon."""
        try:
            if timeout_seconds is not None and self._connection.sock is not None:
                self._connection.sock.settimeout(timeout_seconds)
            piece = self._response.read1(PIECE_BYTES)
        except (OSError, HTTPException) as error:
            raise ConnectionLost(text_of(error)) from error
        if not piece and self._response.length:
            raise ConnectionLost(f"{self._response.length} bytes of the answer are missing")
        self._complete = self._complete or not piece
        return piece

    def read(self) -> bytes:
        """The whole body. Raises :class:`ConnectionLost`."""
        return b"".join(iter(self.piece, b""))


class Connections:
    """Connections to one server. Safe to share between threads."""

    def __init__(self, server: Server, headers: Mapping[str, str]) -> None:
        self._server, self._headers, self._tls = server, dict(headers), server.tls()
        self._idle: list[tuple[float, HTTPConnection]] = []
        self._closed = False

    def request(self, step: Send, connected: Callable[[socket.socket], None] = lambda _: None) -> Answer:
        """An answer, once its headers came. Raises :class:`ConnectionLost`; ``ValueError`` for JSON with NaN.

        ``connected`` gets the socket before the request is sent: another thread may shut it down.
        """
        target = self._server.base + step.target
        every = {**self._headers, **step.all_headers}
        if self._server.proxy is not None and self._tls is None:
            target = self._server.origin + target
            every |= self._server.proxy.headers
        body = step.body
        connection = self._connection()
        try:
            if connection.sock is None:
                connect(connection)
            connected(connection.sock)
            return self._answer(connection, step.method, target, body, every, step.timeout_seconds)
        except (OSError, HTTPException) as error:
            connection.close()
            raise ConnectionLost(text_of(error)) from error
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
        connection.sock.settimeout(timeout)
        sent = True
        try:
            connection.request(method, target, content, dict(headers))
        except (BrokenPipeError, ConnectionResetError):
            sent = False  # a refusal may have arrived before all of the body was sent
        response = connection.getresponse()
        if _is_cut(response):
            response.close()
            raise ConnectionLost("the answer ends within its headers")
        return Answer(self, connection, response, sent)

    def _connection(self) -> HTTPConnection:
        while self._idle:
            try:
                since, connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - since < IDLE_SECONDS and not _is_readable(connection):
                return connection
            connection.close()
        server = self._server
        host, port = (server.host, server.port) if server.proxy is None else server.proxy[:2]
        if self._tls is None:
            return HTTPConnection(host, port, timeout=CONNECT_SECONDS)
        secure = HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=self._tls)
        if server.proxy is not None:
            secure.set_tunnel(server.host, server.port, server.proxy.headers)
        return secure

    def release(self, connection: HTTPConnection, reusable: bool) -> None:
        """Keep a connection for the next request, or close it."""
        if reusable and connection.sock is not None and len(self._idle) < MAX_IDLE and not self._closed:
            self._idle.append((time.monotonic(), connection))
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections, and each that is in use after its answer."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].close()


def connect(connection: HTTPConnection) -> None:
    """Connect within ``CONNECT_SECONDS``. Raises :class:`NotConnected`; ``TimeoutError`` from a slow network."""
    try:
        connection.connect()
    except TimeoutError:
        raise
    except OSError as error:
        raise NotConnected(text_of(error)) from error


def _is_readable(connection: HTTPConnection) -> bool:
    """Whether an idle connection can be read, which means that it was closed."""
    poller = select.poll()
    poller.register(connection.sock, select.POLLIN)
    return bool(poller.poll(0))


def _is_cut(response: HTTPResponse) -> bool:
    """Whether headers are missing: :mod:`http.client` accepts headers cut off by the end of the connection."""
    framed = response.chunked or response.length is not None
    return not framed and response.version == 11 and "close" not in response.headers.get("Connection", "").lower()


def _proxy(scheme: str, address: str) -> Proxy | None:
    """The proxy that the environment variables name. Raises ``ValueError`` for an unsupported proxy."""
    from base64 import b64encode  # imported here: most APIs are on this host
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
    return Proxy(parts.hostname, parts.port or 80, headers)


def text_of(error: Exception) -> str:
    """The error's own text, or the name of its class."""
    return str(error) or type(error).__name__
