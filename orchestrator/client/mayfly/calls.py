"""Every call of the API, each written once as a coroutine without I/O: :mod:`mayfly.steps` explains how.

The docstrings are those of the methods of :class:`mayfly.Client` and :class:`mayfly.AsyncClient`. Every call may raise
:class:`mayfly.ApiUnreachable` and :class:`mayfly.Refused`; further exceptions are named.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Unpack
from urllib.parse import quote

from mayfly import inputs
from mayfly.administration.operation import Operation
from mayfly.administration.tenancy import Tenancy
from mayfly.administration.users import Users
from mayfly.catalogue.searching import ToolSearches
from mayfly.catalogue.tooling import Tooling
from mayfly.errors import PASSING, ApiUnreachable, MayflyError, StreamBroken, WaitTimeout
from mayfly.exchange import API, EXECUTIONS, FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, execution_path
from mayfly.inputs import Options
from mayfly.results import Document, Environment, Event, Execution, Key, Page, items
from mayfly.sse import EventParser, StreamEvent
from mayfly.steps import ANSWER_SECONDS, ConnectionLost, Pause, Send, Spawn

if TYPE_CHECKING:
    from mayfly.caller_tools.definition import Tools

LONG_POLL_SECONDS = 20
KEEPALIVE_SECONDS = 45.0
STEADY_SECONDS = 5.0
MAX_EVENT_BYTES = 64 * 2**20


class Calls(Tooling, ToolSearches, Tenancy, Operation, Users):
    """The calls of one API."""

    async def submit(
        self,
        code: str | None = None,
        *,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Execution:
        """Submit a program; with ``wait_seconds`` (at most 60) the result is the finished execution if it ends in time.

        The other arguments are those of :class:`mayfly.Options`. The Idempotency-Key is random by default: a request
        whose answer was lost is repeated without a second execution. Raises ``OSError`` for an unreadable file, and
        ``ValueError`` for two files of the same name.
        """
        body = await inputs.submission(code, options, self.put_blob)
        headers = {"Idempotency-Key": idempotency_key or os.urandom(16).hex()}
        if wait_seconds:
            headers["Prefer"] = f"wait={wait_seconds}"
        timeout = ANSWER_SECONDS + wait_seconds
        request = Send("POST", EXECUTIONS, json=body, headers=headers, timeout_seconds=timeout)
        return Execution.from_document(await self._exchange.json(request))

    async def run(
        self, code: str | None = None, *, timeout_seconds: float | None = None, **options: Unpack[Options]
    ) -> Execution:
        """Submit a program and wait for its end, for at most ``timeout_seconds``; the program can call the functions in
        ``tools`` (:meth:`fulfil`).

        ``run(…).check()`` raises for a failed program. Raises :class:`mayfly.WaitTimeout`; the execution continues.
        """
        deadline = None if timeout_seconds is None else self._exchange.now() + timeout_seconds
        if tools := options.get("tools"):
            id = (await self.submit(code, **options)).id
            return await self.fulfil(id, tools, timeout_seconds=timeout_seconds)
        wait = LONG_POLL_SECONDS if timeout_seconds is None else min(LONG_POLL_SECONDS, int(timeout_seconds))
        execution = await self.submit(code, wait_seconds=wait, **options)
        if execution.is_finished:
            return execution
        return await self.wait(execution.id, None if deadline is None else max(0.0, deadline - self._exchange.now()))

    async def get(self, id: str) -> Execution:
        """One execution with its output as text."""
        return Execution.from_document(await self._exchange.json(Send("GET", execution_path(id))))

    async def wait(self, id: str, timeout_seconds: float | None = None) -> Execution:
        """The execution once it has ended. Raises :class:`mayfly.WaitTimeout` after ``timeout_seconds``."""
        deadline = None if timeout_seconds is None else self._exchange.now() + timeout_seconds
        while True:
            left = LONG_POLL_SECONDS if deadline is None else max(0.0, deadline - self._exchange.now())
            pause = min(LONG_POLL_SECONDS, left)
            request = Send("GET", execution_path(id), params={"wait": pause}, timeout_seconds=ANSWER_SECONDS + pause)
            execution = Execution.from_document(await self._exchange.json(request))
            if execution.is_finished:
                return execution
            if deadline is not None and self._exchange.now() >= deadline:
                raise WaitTimeout(id, execution.state, timeout_seconds or 0.0)

    async def fulfil(
        self, id: str, tools: Tools, *, after: str | None = None, timeout_seconds: float | None = None
    ) -> Execution:
        """Answer an execution's calls of tools with functions of this process; returns the ended execution.

        Calls overlap: :class:`mayfly.Client` runs each in a thread; :class:`mayfly.AsyncClient` awaits ``async``
        functions, and runs others in threads. The text of an exception reaches the program, which is not trusted.
        ``after``: the last event whose call was answered. Raises :class:`mayfly.WaitTimeout` after
        ``timeout_seconds``; the execution then continues, and its calls fail.
        """
        from mayfly.caller_tools.answering import answer
        from mayfly.caller_tools.definition import split

        own = split(tools)[1]
        deadline = None if timeout_seconds is None else self._exchange.now() + timeout_seconds
        failures: list[MayflyError] = []
        async with aclosing(self._followed(id, after, deadline)) as events:
            async for event in events:
                call = event.tool_call
                if call is not None and call.arguments is not None and call.name in own:
                    await Spawn(answer(self, id, own[call.name], call.call_id, call.arguments, failures))
                if failures:
                    raise failures[0]
        execution = await self.get(id)
        if not execution.is_finished:
            raise WaitTimeout(id, execution.state, timeout_seconds or 0.0)
        return execution

    async def follow(self, id: str, after: str | None = None) -> AsyncGenerator[StreamEvent, None]:
        """Every event of an execution as it happens, until its end; with ``after`` only events behind that id.

        A broken connection is resumed behind the last received event, without loss or repetition. Raises
        :class:`mayfly.StreamBroken`.
        """
        async with aclosing(self._followed(id, after, None)) as events:
            async for event in events:
                yield event

    async def _followed(self, id: str, after: str | None, until: float | None) -> AsyncGenerator[StreamEvent, None]:
        """The same events, at most until a time of the exchange's clock."""
        pause, deadline = FIRST_PAUSE_SECONDS, None
        while until is None or self._exchange.now() < until:
            began, last = self._exchange.now(), after
            failure: MayflyError
            try:
                async with aclosing(self._stream_once(id, after, until)) as events:
                    async for event in events:
                        after = event.id or after
                        yield event
                        if event.type == "done":
                            return
                if (await self.get(id)).is_finished:
                    return
                failure = StreamBroken(f"The stream of {id} breaks repeatedly before the execution has ended.")
            except PASSING as error:
                failure = error
            now = self._exchange.now()
            if until is not None and now + pause >= until:
                return
            if after != last or now - began > STEADY_SECONDS:
                pause, deadline = FIRST_PAUSE_SECONDS, None
            deadline = deadline or now + self._exchange.patience_seconds
            if now + pause > deadline:
                raise failure
            await Pause(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    async def _stream_once(self, id: str, after: str | None, until: float | None) -> AsyncGenerator[StreamEvent, None]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        path = execution_path(id, "stream")
        request = Send("GET", path, headers=headers, timeout_seconds=KEEPALIVE_SECONDS, streamed=True)
        parser = EventParser(MAX_EVENT_BYTES)
        try:
            async for piece in self._exchange.pieces(request, retry=False, deadline=until):
                for sse in parser.feed(piece):
                    yield StreamEvent.parse(sse.id, sse.event, sse.data)
        except ConnectionLost as error:  # an event is larger than its bound
            raise ApiUnreachable(self._exchange.url, error) from error

    async def executions(
        self, *, state: str | None = None, environment: str | None = None, label: list[str] | None = None
    ) -> AsyncGenerator[Execution, None]:
        """Every execution, newest first, without output; pages are fetched as they are needed.

        ``label`` has ``name:value`` pairs; an execution must have all of them.
        """
        cursor = None
        while True:
            page = await self.page(state=state, environment=environment, label=label, cursor=cursor)
            for execution in page.items:
                yield execution
            cursor = page.next_cursor
            if cursor is None:
                return

    async def page(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        state: str | None = None,
        environment: str | None = None,
        label: list[str] | None = None,
    ) -> Page[Execution]:
        """One page of executions, newest first. A filtered page may have fewer than ``limit`` (at most 200)."""
        filters = {"cursor": cursor, "state": state, "environment": environment, "label": label}
        given = {name: value for name, value in filters.items() if value}
        document = await self._exchange.json(Send("GET", EXECUTIONS, params={"limit": limit, **given}))
        return Page.read(document, items=items(document, Execution.from_document))

    async def cancel(self, id: str) -> Execution:
        """Request an execution's end. Raises :class:`mayfly.Conflict`, ``already_finished``, if it has ended."""
        return Execution.from_document(await self._exchange.json(Send("POST", execution_path(id, "cancel"))))

    async def delete(self, id: str) -> None:
        """Remove a finished execution with output and artifacts. Raises :class:`mayfly.Conflict` while it runs."""
        await self._exchange.answer(Send("DELETE", execution_path(id)))

    async def output(self, id: str, name: str = "stdout") -> bytes:
        """The exact bytes of ``stdout`` or ``stderr``."""
        return (await self._exchange.answer(Send("GET", execution_path(id, name)))).content

    async def events(self, id: str) -> list[Event]:
        """An execution's events, security events included."""
        document = await self._exchange.json(Send("GET", execution_path(id, "events")))
        return list(items(document, Event.from_document))

    async def security_events(
        self,
        *,
        kind: str | None = None,
        since: str | None = None,
        cursor: str | None = None,
        limit: int = 200,
        wait_seconds: int = 0,
    ) -> Page[Event]:
        """One page of security events, oldest first; with ``wait_seconds`` (at most 60) the API waits for events before
        an empty page.

        ``since`` is a time such as ``2026-01-31T12:00:00Z``. ``follow_cursor`` leads on, without loss or repetition.
        """
        given = {"type": kind, "since": since, "cursor": cursor, "limit": limit, "wait": wait_seconds or None}
        params = {name: value for name, value in given.items() if value is not None}
        timeout = ANSWER_SECONDS + wait_seconds
        request = Send("GET", f"{API}/security-events", params=params, timeout_seconds=timeout)
        document = await self._exchange.json(request)
        return Page.read(document, items=items(document, Event.from_document))

    async def watch(
        self, *, kind: str | None = None, since: str | None = None, follow: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Every security event; with ``follow`` also future events, until the iteration is left."""
        cursor = None
        while True:
            wait = LONG_POLL_SECONDS if follow and cursor else 0
            page = await self.security_events(kind=kind, since=since, cursor=cursor, wait_seconds=wait)
            for event in page.items:
                yield event
            cursor = page.follow_cursor
            if not (follow or page.next_cursor):
                return

    async def environments(self) -> list[Environment]:
        """The environments."""
        return list(items(await self.document("environments"), Environment.from_document))

    async def document(self, path: str) -> Document:
        """Any other resource under ``/api/v1`` as JSON, such as ``workers`` or ``queues``."""
        return await self._exchange.json(Send("GET", f"{API}/{path}"))

    async def create_key(
        self, name: str, scopes: list[str], tenant: str | None = None, options: Document | None = None
    ) -> Key:
        """A new API key; only this answer has ``secret``. Options: ``service_account``, ``expires_in``, ``quotas``."""
        body = {"name": name, "scopes": scopes, **({"tenant": tenant} if tenant else {}), **(options or {})}
        request = Send("POST", f"{API}/api-keys", json=body, headers={"Idempotency-Key": os.urandom(16).hex()})
        return Key.from_document(await self._exchange.json(request))

    async def keys(self) -> list[Key]:
        """Every API key, without its secret."""
        found: list[Key] = []
        params: dict[str, Any] = {"limit": 200}
        while True:
            page = await self._exchange.json(Send("GET", f"{API}/api-keys", params))
            found += items(page, Key.from_document)
            if not page.get("next_cursor"):
                return found
            params["cursor"] = page["next_cursor"]

    async def revoke_key(self, id: str) -> None:
        """Make an API key stop working."""
        await self._exchange.answer(Send("DELETE", f"{API}/api-keys/{quote(id, safe='')}"))

    async def public(self, path: str) -> Document:
        """A document outside ``/api/v1``, such as ``/.well-known/jwks.json``. Never retries."""
        return await self._exchange.json(Send("GET", path), retry=False)

    async def versions(self) -> Document:
        """Versions of the API."""
        return await self._exchange.json(Send("GET", "/api/versions"))

    async def ready(self) -> Document:
        """The current answer of ``/readyz``; ``status`` is ``ok`` if executions can run. Never retries."""
        return self._exchange.document(await self._exchange.once(Send("GET", "/readyz")))
