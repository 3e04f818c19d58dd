"""Every call of the API, each written once as a coroutine without I/O: :mod:`mayfly.steps` has the theory.

What these docstrings describe is what :class:`mayfly.Client` and :class:`mayfly.AsyncClient` have under the same names.
Every call may raise :class:`mayfly.ApiUnreachable` and :class:`mayfly.Refused`; others are named where they can come.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Unpack
from urllib.parse import quote

from mayfly import inputs
from mayfly.errors import PASSING, ApiUnreachable, MayflyError, RateLimited, StreamBroken, WaitTimeout
from mayfly.exchange import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, Exchange
from mayfly.files import Destination
from mayfly.inputs import Blob, Options
from mayfly.results import Artifact, Document, Environment, Event, Execution, Key, Page, items, member
from mayfly.sse import EventParser, StreamEvent
from mayfly.steps import ANSWER_SECONDS, ConnectionLost, Next, Pause, Send, Work

API = "/api/v1"
EXECUTIONS = f"{API}/executions"
LONG_POLL_SECONDS = 20
KEEPALIVE_SECONDS = 45.0
UPLOAD_SECONDS = 120.0
STEADY_SECONDS = 5.0
MAX_EVENT_BYTES = 64 * 2**20
CHUNK_BYTES = 64 * 1024


class Calls:
    """The calls of one API."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def submit(
        self,
        code: str | None = None,
        *,
        wait_seconds: int = 0,
        idempotency_key: str | None = None,
        **options: Unpack[Options],
    ) -> Execution:
        """Submit a program; with ``wait_seconds`` (at most 60) the finished execution comes back if it ends in time.

        The other arguments are those of :class:`mayfly.Options`. The Idempotency-Key is a random one by default: a
        request with a lost answer is repeated without making a second execution. Raises ``OSError`` for a file that
        cannot be read, and ``ValueError`` for two files of one name.
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
        """Submit a program and wait for its end, for at most ``timeout_seconds``.

        How it ended is in the result: ``run(…).check()`` raises if it did not succeed. Raises
        :class:`mayfly.WaitTimeout`; the execution goes on then.
        """
        deadline = None if timeout_seconds is None else self._exchange.now() + timeout_seconds
        wait = LONG_POLL_SECONDS if timeout_seconds is None else min(LONG_POLL_SECONDS, int(timeout_seconds))
        execution = await self.submit(code, wait_seconds=wait, **options)
        if execution.is_finished:
            return execution
        return await self.wait(execution.id, None if deadline is None else max(0.0, deadline - self._exchange.now()))

    async def get(self, id: str) -> Execution:
        """One execution with its output as text."""
        return Execution.from_document(await self._exchange.json(Send("GET", _execution(id))))

    async def wait(self, id: str, timeout_seconds: float | None = None) -> Execution:
        """The execution once it has ended. Raises :class:`mayfly.WaitTimeout` after ``timeout_seconds``."""
        deadline = None if timeout_seconds is None else self._exchange.now() + timeout_seconds
        while True:
            left = LONG_POLL_SECONDS if deadline is None else max(0.0, deadline - self._exchange.now())
            pause = min(LONG_POLL_SECONDS, left)
            request = Send("GET", _execution(id), params={"wait": pause}, timeout_seconds=ANSWER_SECONDS + pause)
            execution = Execution.from_document(await self._exchange.json(request))
            if execution.is_finished:
                return execution
            if deadline is not None and self._exchange.now() >= deadline:
                raise WaitTimeout(id, execution.state, timeout_seconds or 0.0)

    async def follow(self, id: str, after: str | None = None) -> AsyncGenerator[StreamEvent, None]:
        """Every event of an execution as it happens, until it has ended; with ``after`` those behind that event's id.

        A broken connection is resumed behind the last received event, without loss or repetition. Raises
        :class:`mayfly.StreamBroken`.
        """
        pause, deadline = FIRST_PAUSE_SECONDS, None
        while True:
            began, last = self._exchange.now(), after
            failure: MayflyError
            try:
                async with aclosing(self._stream_once(id, after)) as events:
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
            if after != last or now - began > STEADY_SECONDS:
                pause, deadline = FIRST_PAUSE_SECONDS, None
            deadline = deadline or now + self._exchange.patience_seconds
            if now + pause > deadline:
                raise failure
            await Pause(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    async def _stream_once(self, id: str, after: str | None) -> AsyncGenerator[StreamEvent, None]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        path = _execution(id, "stream")
        request = Send("GET", path, headers=headers, timeout_seconds=KEEPALIVE_SECONDS, streamed=True)
        parser = EventParser(MAX_EVENT_BYTES)
        try:
            async for piece in self._exchange.pieces(request, retry=False):
                for sse in parser.feed(piece):
                    yield StreamEvent.parse(sse.id, sse.event, sse.data)
        except ConnectionLost as error:  # an event beyond its bound
            raise ApiUnreachable(self._exchange.url, error) from error

    async def executions(
        self, *, state: str | None = None, environment: str | None = None, label: list[str] | None = None
    ) -> AsyncGenerator[Execution, None]:
        """Every execution, newest first, without output; pages are fetched as they are needed.

        ``label`` has ``name:value`` pairs that all must hold.
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
        """Ask for an execution's end. Raises :class:`mayfly.Conflict`, ``already_finished``, if it has ended."""
        return Execution.from_document(await self._exchange.json(Send("POST", _execution(id, "cancel"))))

    async def append_stdin(self, id: str, data: bytes, offset: int, *, end: bool = False) -> None:
        """Append bytes to a streamed standard input; ``end`` marks the last bytes. Never retries.

        ``offset`` is the number of earlier bytes, so that a repeated chunk is not appended twice.
        """
        await self._exchange.json(_chunk(id, data, offset, end=end), retry=False)

    async def feed(self, id: str, data: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        """Pass on bytes as the standard input of an execution that was submitted with ``stdin=STREAMED``, and end it.

        A full input is tried again, for as long as the program takes to read. Raises :class:`mayfly.Conflict` once the
        execution has ended.
        """
        source = aiter(data) if isinstance(data, AsyncIterable) else iter(data)
        sent = 0
        while (piece := await Next(source)) is not None:
            for at in range(0, len(piece), CHUNK_BYTES):
                chunk = piece[at : at + CHUNK_BYTES]
                await self._append(id, chunk, sent)
                sent += len(chunk)
        await self._append(id, b"", sent, end=True)

    async def _append(self, id: str, chunk: bytes, offset: int, *, end: bool = False) -> None:
        while True:
            try:
                await self._exchange.json(_chunk(id, chunk, offset, end=end))
            except RateLimited as error:
                if error.code != "stdin_full":
                    raise
                await Pause(error.retry_after_seconds or FIRST_PAUSE_SECONDS)
            else:
                return

    async def delete(self, id: str) -> None:
        """Remove a finished execution with output and artifacts. Raises :class:`mayfly.Conflict` while it runs."""
        await self._exchange.answer(Send("DELETE", _execution(id)))

    async def output(self, id: str, name: str = "stdout") -> bytes:
        """The exact bytes of ``stdout`` or ``stderr``."""
        return (await self._exchange.answer(Send("GET", _execution(id, name)))).content

    async def events(self, id: str) -> list[Event]:
        """An execution's events, security events included."""
        document = await self._exchange.json(Send("GET", _execution(id, "events")))
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
        """Every security event there is; with ``follow`` also those still to come, until the iteration is left."""
        cursor = None
        while True:
            wait = LONG_POLL_SECONDS if follow and cursor else 0
            page = await self.security_events(kind=kind, since=since, cursor=cursor, wait_seconds=wait)
            for event in page.items:
                yield event
            cursor = page.follow_cursor
            if not (follow or page.next_cursor):
                return

    def artifact(self, id: str, path: str) -> AsyncGenerator[bytes, None]:
        """An artifact's bytes, in pieces."""
        return self._exchange.pieces(Send("GET", f"{_execution(id, 'artifacts')}/{quote(path)}", streamed=True))

    async def save_artifact(self, id: str, artifact: Artifact, directory: Path) -> Path:
        """Save an artifact under its own name below ``directory`` and nowhere else; return where that is.

        The bytes are compared with the announced SHA-256. A file of that name is replaced. Raises
        :class:`mayfly.UnsafeArtifact`, and ``OSError`` for what cannot be written; then nothing is left behind.
        """
        return await self._save(id, artifact.path, Path(directory), artifact.path, artifact.sha256)

    async def save_artifacts(self, execution: Execution, directory: Path) -> list[Path]:
        """Save every artifact of an execution as :meth:`save_artifact` does; return where they are."""
        return [await self.save_artifact(execution.id, artifact, directory) for artifact in execution.artifacts]

    async def download(self, id: str, path: str, to: Path) -> Path:
        """Save an artifact as the file ``to``, which is replaced if it is there. Raises ``OSError``."""
        target = Path(to)
        return await self._save(id, path, target.parent, target.name, None)

    async def _save(self, id: str, path: str, directory: Path, name: str, sha256: str | None) -> Path:
        with await Work(partial(Destination, directory, name, sha256)) as destination:
            async with aclosing(self.artifact(id, path)) as pieces:
                async for piece in pieces:
                    await Work(partial(destination.write, piece))
            return await Work(destination.commit)

    async def put_blob(self, data: bytes | Path) -> Blob:
        """Upload bytes, or a file, for use as an input. The same bytes give the same blob."""
        content = await Work(data.read_bytes) if isinstance(data, Path) else data
        request = Send("PUT", f"{API}/blobs", content=content, timeout_seconds=UPLOAD_SECONDS)
        return Blob(str(member(await self._exchange.json(request), "blob")))

    async def environments(self) -> list[Environment]:
        """The environments."""
        return list(items(await self.document("environments"), Environment.from_document))

    async def document(self, path: str) -> Document:
        """Any other resource under ``/api/v1`` as JSON, such as ``workers`` or ``queues``."""
        return await self._exchange.json(Send("GET", f"{API}/{path}"))

    async def create_key(self, name: str, scopes: list[str], tenant: str | None = None) -> Key:
        """A new API key; ``secret`` is shown this once."""
        body = {"name": name, "scopes": scopes} | ({"tenant": tenant} if tenant else {})
        request = Send("POST", f"{API}/api-keys", json=body)
        return Key.from_document(await self._exchange.json(request, retry=False))

    async def keys(self) -> list[Key]:
        """Every API key, without its secret."""
        return list(items(await self.document("api-keys"), Key.from_document))

    async def revoke_key(self, id: str) -> None:
        """Make an API key stop working."""
        await self._exchange.answer(Send("DELETE", f"{API}/api-keys/{quote(id, safe='')}"))

    async def versions(self) -> Document:
        """Versions of the API."""
        return await self._exchange.json(Send("GET", "/api/versions"))

    async def ready(self) -> Document:
        """The current answer of ``/readyz``; ``status`` is ``ok`` if executions can run. Never retries."""
        return self._exchange.document(await self._exchange.once(Send("GET", "/readyz")))


def _execution(id: str, *rest: str) -> str:
    return "/".join((EXECUTIONS, quote(id, safe=""), *rest))


def _chunk(id: str, data: bytes, offset: int, *, end: bool) -> Send:
    return Send("POST", _execution(id, "stdin"), content=data, params={"offset": offset, "end": end})
