"""The client for asyncio: :class:`AsyncClient`, and the driver of calls behind it, over httpx2.

URL, proxies, TLS and the bytes on the wire are those of :mod:`mayfly.client`; only the way in which steps wait differs.
One case is weaker: if a server resets a connection before it has read the body, asyncio drops an answer that arrived
earlier, and :class:`mayfly.ApiUnreachable` is raised. Mayfly's API continues to read the body.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import suppress
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2

from mayfly.calls import Calls
from mayfly.client import PATIENCE_SECONDS, address
from mayfly.connections import CONNECT_SECONDS, MAX_IDLE, Server, text_of
from mayfly.exchange import Exchange, Token
from mayfly.steps import (
    Await,
    ConnectionLost,
    Next,
    NotConnected,
    Pause,
    Progress,
    Read,
    Response,
    Send,
    Spawn,
    Step,
    Work,
)

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
    """:class:`mayfly.Client` for asyncio: the same calls, to be awaited, or iterated with ``async for``.

    Made, used and closed in one event loop. To leave an iteration early without waiting for the garbage collector, use
    ``contextlib.aclosing``.
    """

    def __init__(
        self, url: str | None = None, token: Token | None = None, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        exchange = Exchange(*address(url, token), patience_seconds)
        self.url = exchange.url
        self._server = Server.at(exchange.url)
        proxy = self._server.proxy
        self._http = httpx2.AsyncClient(
            headers={**exchange.headers, "Accept-Encoding": "identity"},
            verify=self._server.tls() or False,
            proxy=httpx2.Proxy(f"http://{proxy.host}:{proxy.port}", headers=proxy.headers) if proxy else None,
            trust_env=False,  # Server has read the environment variables
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
    fulfil = _awaiting(Calls.fulfil)
    get = _awaiting(Calls.get)
    wait = _awaiting(Calls.wait)
    follow = _iterating(Calls.follow)
    executions = _iterating(Calls.executions)
    page = _awaiting(Calls.page)
    cancel = _awaiting(Calls.cancel)
    append_stdin = _awaiting(Calls.append_stdin)
    feed = _awaiting(Calls.feed)
    send_tool_result = _awaiting(Calls.send_tool_result)
    send_tool_error = _awaiting(Calls.send_tool_error)
    delete = _awaiting(Calls.delete)
    output = _awaiting(Calls.output)
    events = _awaiting(Calls.events)
    security_events = _awaiting(Calls.security_events)
    audit = _awaiting(Calls.audit)
    audit_seals = _awaiting(Calls.audit_seals)
    watch = _iterating(Calls.watch)
    artifact = _iterating(Calls.artifact)
    save_artifact = _awaiting(Calls.save_artifact)
    save_artifacts = _awaiting(Calls.save_artifacts)
    download = _awaiting(Calls.download)
    put_blob = _awaiting(Calls.put_blob)
    environments = _awaiting(Calls.environments)
    search_tools = _awaiting(Calls.search_tools)
    document = _awaiting(Calls.document)
    call_tool = _awaiting(Calls.call_tool)
    tool_servers = _awaiting(Calls.tool_servers)
    catalogue_changes = _awaiting(Calls.catalogue_changes)
    declare_tool_server = _awaiting(Calls.declare_tool_server)
    remove_tool_server = _awaiting(Calls.remove_tool_server)
    accept_catalogue = _awaiting(Calls.accept_catalogue)
    create_key = _awaiting(Calls.create_key)
    keys = _awaiting(Calls.keys)
    revoke_key = _awaiting(Calls.revoke_key)
    create_user = _awaiting(Calls.create_user)
    users = _awaiting(Calls.users)
    user = _awaiting(Calls.user)
    change_user = _awaiting(Calls.change_user)
    delete_user = _awaiting(Calls.delete_user)
    user_sessions = _awaiting(Calls.user_sessions)
    end_user_session = _awaiting(Calls.end_user_session)
    own_sessions = _awaiting(Calls.own_sessions)
    log_in = _awaiting(Calls.log_in)
    change_password = _awaiting(Calls.change_password)
    refresh_login = _awaiting(Calls.refresh_login)
    log_out = _awaiting(Calls.log_out)
    usage = _awaiting(Calls.usage)
    quotas = _awaiting(Calls.quotas)
    set_quotas = _awaiting(Calls.set_quotas)
    workers = _awaiting(Calls.workers)
    drain_worker = _awaiting(Calls.drain_worker)
    switches = _awaiting(Calls.switches)
    set_switch = _awaiting(Calls.set_switch)
    tenants = _awaiting(Calls.tenants)
    tenant = _awaiting(Calls.tenant)
    create_tenant = _awaiting(Calls.create_tenant)
    change_tenant = _awaiting(Calls.change_tenant)
    delete_tenant = _awaiting(Calls.delete_tenant)
    service_accounts = _awaiting(Calls.service_accounts)
    create_service_account = _awaiting(Calls.create_service_account)
    change_service_account = _awaiting(Calls.change_service_account)
    delete_service_account = _awaiting(Calls.delete_service_account)
    public = _awaiting(Calls.public)
    versions = _awaiting(Calls.versions)
    ready = _awaiting(Calls.ready)


class Driver:
    """Performs the steps of one call, and awaits each."""

    def __init__(self, http: httpx2.AsyncClient, server: Server, *, beside: bool = False) -> None:
        """``beside``: the call runs beside another, and its functions may take any time."""
        self._work = _in_thread if beside else asyncio.to_thread
        self._http, self._server, self._prefix = http, server, server.origin + server.base
        self._answer: httpx2.Response | None = None
        self._pieces: Any = None  # an asynchronous generator
        self._tasks: list[asyncio.Task[None]] = []

    async def complete(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call to its end."""
        progress = Progress(call)
        for step in progress:
            with progress:
                progress.result = await self.take(step)
        return progress.value

    async def take(self, step: Step[Any]) -> Any:
        """Perform a step. Raises :class:`mayfly.steps.ConnectionLost`, and exceptions of the caller's code."""
        match step:
            case Send():
                return await self._send(step)
            case Read(timeout_seconds):
                return await self._read(timeout_seconds)
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case Work(function):
                return await self._work(function)
            case Await(value):
                return await value
            case Spawn(call):
                return self._tasks.append(asyncio.create_task(self._run_beside(call)))
            case Next(source):
                if isinstance(source, AsyncIterator):
                    return await anext(source, None)
                return await asyncio.to_thread(partial(next, source, None))
        raise TypeError(f"{step!r} is not a step of a call.")

    async def _run_beside(self, call: Coroutine[Any, Any, None]) -> None:
        driver = Driver(self._http, self._server, beside=True)
        try:
            await driver.complete(call)
        finally:
            await driver.close()

    async def _send(self, step: Send) -> Response:
        await self._close_answer()
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
        await self._close_answer()
        return Response(response.status, response.headers, b"".join(content))

    async def _read(self, timeout_seconds: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout_seconds):
                return bytes(await anext(self._pieces, b"")) if self._pieces else b""
        except (httpx2.TransportError, TimeoutError) as error:
            raise ConnectionLost(text_of(error)) from error

    async def close(self) -> None:
        """Close the streamed response, if there is one, and cancel the calls beside this one."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close_answer()

    async def _close_answer(self) -> None:
        answer, pieces, self._answer, self._pieces = self._answer, self._pieces, None, None
        if answer is not None:
            await pieces.aclose()
            await answer.aclose()


async def _in_thread(function: Callable[[], T]) -> T:
    """Call a function in a thread of its own: asyncio's threads are few, and the end of its loop waits for each."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            set_outcome(outcome)

    def run() -> None:
        try:
            value = context.run(function)
        except BaseException as error:
            report: tuple[Callable[[Any], None], Any] = (future.set_exception, error)
        else:
            report = (future.set_result, value)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, *report)

    threading.Thread(target=run, daemon=True).start()
    return await future
