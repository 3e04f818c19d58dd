"""The client for asyncio: :class:`AsyncClient`, and the driver of calls behind it, over httpx2.

URL, proxies, TLS and what is written on the wire are those of :mod:`mayfly.client`; only how steps wait differs. One
thing is weaker: where a server resets a connection before it has read a body, asyncio drops an answer that came
before, and :class:`mayfly.ApiUnreachable` is raised. Mayfly's API reads on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2

from mayfly.calls import Calls
from mayfly.client import PATIENCE_SECONDS, address
from mayfly.connections import CONNECT_SECONDS, MAX_IDLE, Server, text_of
from mayfly.exchange import Exchange
from mayfly.steps import ConnectionLost, Next, NotConnected, Pause, Progress, Read, Response, Send, Step, Work

P = ParamSpec("P")
T = TypeVar("T")


def _awaiting(
    call: Callable[Concatenate[Calls, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    @wraps(call)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        driver = Driver(self._http, self._server)
        try:
            return await driver.complete(call(self._calls, *args, **kwargs))
        finally:
            await driver.close()

    return method


def _iterating(
    call: Callable[Concatenate[Calls, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]]:
    @wraps(call)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        driver = Driver(self._http, self._server)
        generator = call(self._calls, *args, **kwargs)
        try:
            while True:
                try:
                    item = await driver.complete(generator.__anext__())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            await driver.complete(generator.aclose())
            await driver.close()

    return method


class AsyncClient:
    """What :class:`mayfly.Client` is, for asyncio: the same calls, to be awaited, or iterated with ``async for``.

    Made, used and closed in one event loop. To leave an iteration early without waiting for the garbage collector, use
    ``contextlib.aclosing``.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        exchange = Exchange(*address(url, token), patience_seconds)
        self.url = exchange.url
        self._server = Server.at(exchange.url)
        proxy = self._server.proxy
        self._http = httpx2.AsyncClient(
            headers={**exchange.headers, "Accept-Encoding": "identity"},
            verify=self._server.tls() or False,
            proxy=httpx2.Proxy(f"http://{proxy.host}:{proxy.port}", headers=proxy.headers) if proxy else None,
            trust_env=False,  # Server has read what counts
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=MAX_IDLE),  # for 5 s, as IDLE_SECONDS
        )
        self._calls = Calls(exchange)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    submit = _awaiting(Calls.submit)
    run = _awaiting(Calls.run)
    get = _awaiting(Calls.get)
    wait = _awaiting(Calls.wait)
    follow = _iterating(Calls.follow)
    executions = _iterating(Calls.executions)
    page = _awaiting(Calls.page)
    cancel = _awaiting(Calls.cancel)
    append_stdin = _awaiting(Calls.append_stdin)
    feed = _awaiting(Calls.feed)
    delete = _awaiting(Calls.delete)
    output = _awaiting(Calls.output)
    events = _awaiting(Calls.events)
    security_events = _awaiting(Calls.security_events)
    watch = _iterating(Calls.watch)
    artifact = _iterating(Calls.artifact)
    save_artifact = _awaiting(Calls.save_artifact)
    save_artifacts = _awaiting(Calls.save_artifacts)
    download = _awaiting(Calls.download)
    put_blob = _awaiting(Calls.put_blob)
    environments = _awaiting(Calls.environments)
    document = _awaiting(Calls.document)
    create_key = _awaiting(Calls.create_key)
    keys = _awaiting(Calls.keys)
    revoke_key = _awaiting(Calls.revoke_key)
    versions = _awaiting(Calls.versions)
    ready = _awaiting(Calls.ready)


class Driver:
    """Does the steps of one call, and awaits meanwhile."""

    def __init__(self, http: httpx2.AsyncClient, server: Server) -> None:
        self._http, self._prefix = http, server.origin + server.base
        self._answer: httpx2.Response | None = None
        self._pieces: Any = None  # an asynchronous generator

    async def complete(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call to its end."""
        progress = Progress(call)
        for step in progress:
            with progress:
                progress.result = await self.take(step)
        return progress.value

    async def take(self, step: Step[Any]) -> Any:
        """Do what a step asks for. Raises :class:`mayfly.steps.ConnectionLost`, and what the caller's code raises."""
        match step:
            case Send():
                return await self._send(step)
            case Read():
                return await self._read()
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case Work(function):
                return await asyncio.to_thread(function)
            case Next(source):
                if isinstance(source, AsyncIterator):
                    return await anext(source, None)
                return await asyncio.to_thread(partial(next, source, None))
        raise TypeError(f"{step!r} is not a step of a call.")

    async def _send(self, step: Send) -> Response:
        await self.close()
        request = self._http.build_request(
            step.method,
            self._prefix + step.target,
            content=step.body,
            headers=step.all_headers,
            timeout=httpx2.Timeout(step.timeout_seconds, connect=CONNECT_SECONDS),
        )
        try:
            answer = await self._http.send(request, stream=True)
        except (httpx2.ConnectError, httpx2.ProxyError) as error:
            raise NotConnected(text_of(error)) from error
        except httpx2.TransportError as error:
            raise ConnectionLost(text_of(error)) from error
        self._answer, self._pieces = answer, answer.aiter_raw()
        response = Response(answer.status_code, {name.lower(): value for name, value in answer.headers.items()})
        if step.streamed and response.is_success:
            return response
        content = []
        while piece := await self._read():
            content.append(piece)
        await self.close()
        return Response(response.status, response.headers, b"".join(content))

    async def _read(self) -> bytes:
        try:
            return bytes(await anext(self._pieces, b"")) if self._pieces else b""
        except httpx2.TransportError as error:
            raise ConnectionLost(text_of(error)) from error

    async def close(self) -> None:
        """Close the streamed response, if there is one."""
        answer, pieces, self._answer, self._pieces = self._answer, self._pieces, None, None
        if answer is not None:
            await pieces.aclose()
            await answer.aclose()
