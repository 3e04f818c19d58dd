"""The client that blocks: :class:`Client`, and the driver of calls behind it.

``_blocking`` and ``_iterating`` turn a call of :mod:`mayfly.calls` into a method with the same arguments and docstring.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from mayfly.calls import Calls
from mayfly.connections import Answer, Connections, Server
from mayfly.exchange import Exchange, Token
from mayfly.steps import Await, Next, Pause, Progress, Read, Response, Send, Spawn, Step, Work

P = ParamSpec("P")
T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8000"
PATIENCE_SECONDS = 15.0


def address(url: str | None, token: Token | None) -> tuple[str, Token]:
    """URL and API key: the given values, else ``MAYFLY_URL`` and ``MAYFLY_TOKEN``.

    The key of the environment variable is sent only to the URL of the environment variable.
    """
    own_url = os.environ.get("MAYFLY_URL") or DEFAULT_URL
    url = own_url if url is None else url
    if token is None:
        token = os.environ.get("MAYFLY_TOKEN", "") if url.rstrip("/") == own_url.rstrip("/") else ""
    return url, token


def _blocking(call: Callable[Concatenate[Calls, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Client, P], T]:
    @wraps(call)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        driver = Driver(self._connections)
        try:
            return driver.complete(call(self._calls, *args, **kwargs))
        finally:
            driver.close()

    return method


def _iterating(
    call: Callable[Concatenate[Calls, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Client, P], Iterator[T]]:
    @wraps(call)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        driver = Driver(self._connections)
        generator = call(self._calls, *args, **kwargs)
        try:
            while True:
                try:
                    item = driver.complete(generator.__anext__())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            driver.complete(generator.aclose())
            driver.close()

    return method


class Client:
    """A client of one API. Safe to share between threads.

    The defaults of ``url`` and ``token`` are ``MAYFLY_URL`` and ``MAYFLY_TOKEN``. A function as ``token`` is called for
    each request, possibly in several threads, and returns a valid token. ``patience_seconds`` bounds the retries of a
    call while the API is unavailable or busy (429, 502, 503, 504). Raises :class:`mayfly.InvalidConfiguration`.
    """

    def __init__(
        self, url: str | None = None, token: Token | None = None, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        exchange = Exchange(*address(url, token), patience_seconds)
        self.url = exchange.url
        self._connections = Connections(Server.at(exchange.url), exchange.headers)
        self._calls = Calls(exchange)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    submit = _blocking(Calls.submit)
    run = _blocking(Calls.run)
    fulfil = _blocking(Calls.fulfil)
    get = _blocking(Calls.get)
    wait = _blocking(Calls.wait)
    follow = _iterating(Calls.follow)
    executions = _iterating(Calls.executions)
    page = _blocking(Calls.page)
    cancel = _blocking(Calls.cancel)
    append_stdin = _blocking(Calls.append_stdin)
    feed = _blocking(Calls.feed)
    send_tool_result = _blocking(Calls.send_tool_result)
    send_tool_error = _blocking(Calls.send_tool_error)
    delete = _blocking(Calls.delete)
    output = _blocking(Calls.output)
    events = _blocking(Calls.events)
    security_events = _blocking(Calls.security_events)
    audit = _blocking(Calls.audit)
    audit_seals = _blocking(Calls.audit_seals)
    watch = _iterating(Calls.watch)
    artifact = _iterating(Calls.artifact)
    save_artifact = _blocking(Calls.save_artifact)
    save_artifacts = _blocking(Calls.save_artifacts)
    download = _blocking(Calls.download)
    put_blob = _blocking(Calls.put_blob)
    environments = _blocking(Calls.environments)
    search_tools = _blocking(Calls.search_tools)
    document = _blocking(Calls.document)
    call_tool = _blocking(Calls.call_tool)
    tool_servers = _blocking(Calls.tool_servers)
    catalogue_changes = _blocking(Calls.catalogue_changes)
    declare_tool_server = _blocking(Calls.declare_tool_server)
    remove_tool_server = _blocking(Calls.remove_tool_server)
    accept_catalogue = _blocking(Calls.accept_catalogue)
    create_key = _blocking(Calls.create_key)
    keys = _blocking(Calls.keys)
    revoke_key = _blocking(Calls.revoke_key)
    create_user = _blocking(Calls.create_user)
    users = _blocking(Calls.users)
    user = _blocking(Calls.user)
    change_user = _blocking(Calls.change_user)
    delete_user = _blocking(Calls.delete_user)
    user_sessions = _blocking(Calls.user_sessions)
    end_user_session = _blocking(Calls.end_user_session)
    own_sessions = _blocking(Calls.own_sessions)
    log_in = _blocking(Calls.log_in)
    change_password = _blocking(Calls.change_password)
    refresh_login = _blocking(Calls.refresh_login)
    log_out = _blocking(Calls.log_out)
    usage = _blocking(Calls.usage)
    quotas = _blocking(Calls.quotas)
    set_quotas = _blocking(Calls.set_quotas)
    workers = _blocking(Calls.workers)
    drain_worker = _blocking(Calls.drain_worker)
    switches = _blocking(Calls.switches)
    set_switch = _blocking(Calls.set_switch)
    tenants = _blocking(Calls.tenants)
    tenant = _blocking(Calls.tenant)
    create_tenant = _blocking(Calls.create_tenant)
    change_tenant = _blocking(Calls.change_tenant)
    delete_tenant = _blocking(Calls.delete_tenant)
    service_accounts = _blocking(Calls.service_accounts)
    create_service_account = _blocking(Calls.create_service_account)
    change_service_account = _blocking(Calls.change_service_account)
    delete_service_account = _blocking(Calls.delete_service_account)
    public = _blocking(Calls.public)
    versions = _blocking(Calls.versions)
    ready = _blocking(Calls.ready)


class Driver:
    """Performs the steps of one call, and blocks for each."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._answer: Answer | None = None

    def complete(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call to its end."""
        progress = Progress(call)
        for step in progress:
            with progress:
                progress.result = self.take(step)
        return progress.value

    def take(self, step: Step[Any]) -> Any:
        """Perform a step. Raises :class:`mayfly.steps.ConnectionLost`, and exceptions of the caller's code."""
        match step:
            case Send():
                return self._send(step)
            case Read(timeout_seconds):
                return self._answer.piece(timeout_seconds) if self._answer else b""
            case Pause(seconds):
                return time.sleep(seconds)
            case Work(function):
                return function()
            case Await(value):
                import asyncio  # imported here: most programs that block do without

                return asyncio.run(_awaited(value))
            case Spawn(call):
                return threading.Thread(target=self._run_beside, args=[call], daemon=True).start()
            case Next(source):
                if not isinstance(source, Iterator):
                    raise TypeError("An asynchronous iterator needs the asynchronous client.")
                return next(source, None)
        raise TypeError(f"{step!r} is not a step of a call.")

    def _run_beside(self, call: Coroutine[Any, Any, None]) -> None:
        driver = Driver(self._connections)
        try:
            driver.complete(call)
        finally:
            driver.close()

    def _send(self, step: Send) -> Response:
        self.close()
        answer = self._connections.request(step)
        response = Response(answer.status, answer.headers)
        if step.streamed and response.is_success:
            self._answer = answer
            return response
        with answer:
            return Response(answer.status, answer.headers, answer.read())

    def close(self) -> None:
        """Close the streamed response, if there is one."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()


async def _awaited(value: Awaitable[T]) -> T:
    return await value
