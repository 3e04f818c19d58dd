"""The HTTP client behind the ``mayfly`` command, which is also the Python SDK.

::

    from mayfly import Client

    with Client("http://127.0.0.1:8000", token) as client:
        execution = client.run({"environment": "python", "code": "print(1)"})
        print(execution["state"], execution["stdout"])

Answers are the API's JSON as dictionaries, so that a server with a field more needs no new client. Every refusal is a
:class:`MayflyClientError`. Safe to share between threads.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from orchestrator.client.sse import ServerSentEvent, server_sent_events
from orchestrator.client.transport import (
    ANSWER_SECONDS,
    MAX_PAUSE_SECONDS,
    RETRIED,
    ApiUnreachable,
    Document,
    MayflyClientError,
    Transport,
)

__all__ = ["ApiUnreachable", "Client", "Document", "MayflyClientError", "StreamEvent"]

API = "/api/v1"
TERMINAL = frozenset({"succeeded", "failed", "errored", "cancelled"})
LONG_POLL_SECONDS = 20
KEEPALIVE_SECONDS = 45.0
UPLOAD_SECONDS = 120.0
STEADY_SECONDS = 5.0
MAX_EVENT_BYTES = 64 * 2**20


class StreamEvent(NamedTuple):
    """One event of an execution's stream; ``output`` holds the exact bytes of ``stdout`` and ``stderr`` events."""

    id: str
    type: str
    data: Document
    output: bytes = b""


class Client:
    """Talks to one API. ``patience_seconds`` bounds how long it tries again while the API is away or busy."""

    def __init__(self, url: str, token: str = "", *, patience_seconds: float = 15.0) -> None:
        self._transport = Transport(url, token, patience_seconds)
        self.url = self._transport.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def submit(self, submission: Mapping[str, Any], *, wait_seconds: int = 0, key: str | None = None) -> Document:
        """Submit an execution; with ``wait_seconds`` (at most 60) the finished one comes back if it ends in time.

        ``key`` is the Idempotency-Key, a random one by default: a request whose answer got lost is repeated without
        making a second execution.
        """
        headers = {"Idempotency-Key": key or os.urandom(16).hex()}
        if wait_seconds:
            headers["Prefer"] = f"wait={wait_seconds}"
        timeout = ANSWER_SECONDS + wait_seconds
        return self._transport.json(
            "POST", f"{API}/executions", json=dict(submission), headers=headers, timeout=timeout
        )

    def run(self, submission: Mapping[str, Any], *, timeout_seconds: float | None = None) -> Document:
        """Submit an execution and wait for its end."""
        execution = self.submit(submission, wait_seconds=LONG_POLL_SECONDS)
        return execution if execution["state"] in TERMINAL else self.wait(execution["id"], timeout_seconds)

    def get(self, id: str) -> Document:
        """One execution with its output as text."""
        return self._transport.json("GET", _execution(id))

    def wait(self, id: str, timeout_seconds: float | None = None) -> Document:
        """The execution once it has ended. Raises ``TimeoutError`` if that takes longer than ``timeout_seconds``."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            left = LONG_POLL_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            pause = min(LONG_POLL_SECONDS, left)
            timeout = ANSWER_SECONDS + pause
            execution = self._transport.json("GET", _execution(id), params={"wait": pause}, timeout=timeout)
            if execution["state"] in TERMINAL:
                return execution
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"Execution {id} is still {execution['state']} after {timeout_seconds:g} s.")

    def follow(self, id: str, after: str | None = None) -> Iterator[StreamEvent]:
        """Every event of an execution as it happens, until it has ended.

        A connection that breaks is taken up again behind the last event that came, without loss or repetition.
        """
        pause, deadline = 0.1, None
        while True:
            began, last = time.monotonic(), after
            try:
                for event in self._stream_once(id, after):
                    after = event.id or after
                    yield event
                    if event.type == "done":
                        return
                if self.get(id)["state"] in TERMINAL:
                    return
                failure = MayflyClientError(
                    f"The stream of {id} breaks repeatedly before the execution has ended.", code="stream_broken"
                )
            except MayflyClientError as error:
                if not isinstance(error, ApiUnreachable) and error.status not in RETRIED:
                    raise
                failure = error
            if after != last or time.monotonic() - began > STEADY_SECONDS:
                pause, deadline = 0.1, None
            deadline = deadline or time.monotonic() + self._transport.patience_seconds
            if time.monotonic() + pause > deadline:
                raise failure
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def _stream_once(self, id: str, after: str | None) -> Iterator[StreamEvent]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        with self._transport.stream(_execution(id, "stream"), headers=headers, timeout=KEEPALIVE_SECONDS) as answer:
            for sse in server_sent_events(answer.pieces(), MAX_EVENT_BYTES):
                yield _event(sse)

    def executions(self, *, limit: int = 50, cursor: str | None = None, **filters: str | list[str] | None) -> Document:
        """One page of executions, newest first: ``items`` and ``next_cursor``. Filters: state, environment, label."""
        given = {name: value for name, value in {"cursor": cursor, **filters}.items() if value}
        return self._transport.json("GET", f"{API}/executions", params={"limit": limit, **given})

    def cancel(self, id: str) -> Document:
        """Ask for an execution's end. The problem ``already_finished`` says there was nothing to cancel."""
        return self._transport.json("POST", _execution(id, "cancel"))

    def append_stdin(self, id: str, data: bytes, offset: int, *, end: bool = False) -> Document:
        """Add bytes to a standard input that is streamed; with ``end`` they are its last. Never tries again.

        ``offset`` is how many came before, so that a chunk sent again is not added twice.
        """
        params = {"offset": offset, "end": end}
        return self._transport.json("POST", _execution(id, "stdin"), retry=False, content=data, params=params)

    def delete(self, id: str) -> None:
        """Remove a finished execution with output and artifacts."""
        self._transport.send("DELETE", _execution(id))

    def output(self, id: str, name: str) -> bytes:
        """The exact bytes of ``stdout`` or ``stderr``."""
        return self._transport.send("GET", _execution(id, name)).content

    def events(self, id: str) -> list[Document]:
        """An execution's events, security events included."""
        return list(self._transport.json("GET", _execution(id, "events"))["items"])

    def security_events(
        self,
        *,
        kind: str | None = None,
        since: str | None = None,
        cursor: str | None = None,
        limit: int = 200,
        wait_seconds: int = 0,
    ) -> Document:
        """One page of security events, oldest first; with ``wait_seconds`` (at most 60) an empty one waits for some.

        ``next_cursor`` is there while more are; ``follow_cursor`` always leads on, without loss or repetition.
        """
        given = {"type": kind, "since": since, "cursor": cursor, "limit": limit, "wait": wait_seconds or None}
        params = {name: value for name, value in given.items() if value is not None}
        timeout = ANSWER_SECONDS + wait_seconds
        return self._transport.json("GET", f"{API}/security-events", params=params, timeout=timeout)

    def watch(self, *, kind: str | None = None, since: str | None = None, follow: bool = True) -> Iterator[Document]:
        """Every security event there is; with ``follow`` also those still to come, for as long as one wants them."""
        cursor = None
        while True:
            wait = LONG_POLL_SECONDS if follow and cursor else 0
            page = self.security_events(kind=kind, since=since, cursor=cursor, wait_seconds=wait)
            yield from page["items"]
            cursor = page["follow_cursor"]
            if not (follow or page["next_cursor"]):
                return

    def artifact(self, id: str, path: str) -> Iterator[bytes]:
        """An artifact's bytes, in pieces."""
        with self._transport.stream(f"{_execution(id, 'artifacts')}/{quote(path)}") as answer:
            yield from answer.pieces()

    def put_blob(self, data: bytes) -> str:
        """Upload bytes; the reference to use as a file's ``blob``."""
        answer = self._transport.json("PUT", f"{API}/blobs", content=data, timeout=UPLOAD_SECONDS)
        return str(answer["blob"])

    def environments(self) -> list[Document]:
        """What programs can be run in."""
        return list(self.document("environments")["items"])

    def document(self, path: str) -> Document:
        """Any other resource under ``/api/v1``, such as ``workers`` or ``queues``."""
        return self._transport.json("GET", f"{API}/{path}")

    def create_key(self, name: str, scopes: list[str], tenant: str | None = None) -> Document:
        """A new API key; ``secret`` is shown this once."""
        body = {"name": name, "scopes": scopes} | ({"tenant": tenant} if tenant else {})
        return self._transport.json("POST", f"{API}/api-keys", retry=False, json=body)

    def revoke_key(self, id: str) -> None:
        """Make an API key stop working."""
        self._transport.send("DELETE", f"{API}/api-keys/{quote(id, safe='')}")

    def versions(self) -> Document:
        """Versions of the API."""
        return self._transport.json("GET", "/api/versions")

    def ready(self) -> Document:
        """What ``/readyz`` says now; ``status`` is ``ok`` when executions can run. Never tries again."""
        return self._transport.document(self._transport.once("GET", "/readyz"))


def _execution(id: str, *rest: str) -> str:
    return "/".join((f"{API}/executions", quote(id, safe=""), *rest))


def _event(sse: ServerSentEvent) -> StreamEvent:
    data = json.loads(sse.data) if sse.data else {}
    if sse.event not in ("stdout", "stderr"):
        return StreamEvent(sse.id, sse.event, data)
    output = base64.b64decode(data["base64"]) if "base64" in data else data["text"].encode()
    return StreamEvent(sse.id, sse.event, data, output)
