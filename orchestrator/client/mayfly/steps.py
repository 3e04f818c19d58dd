"""Steps of a call, as data: a call does no I/O of its own.

Theory of operation. Each call of the API is one coroutine (:mod:`mayfly.calls`), written once. Where it needs I/O it
awaits a :class:`Step`::

    response = await Send("GET", "/api/versions")

Awaiting passes the step to the driver that runs the coroutine. The driver performs the step, and sends the result or
throws the exception into the coroutine. There are two drivers: :mod:`mayfly.client` blocks, and
:mod:`mayfly.asynchronous` awaits the event loop. Tests have a third driver, which answers from a script. The model is
h11: one conversation, any I/O. Calls are coroutines rather than generators, so that they have precise types and read
like ordinary code.

All drivers advance a call by :class:`Progress`. A call has at most one streamed response open. The next request, or the
call's end, closes the response.
"""

from __future__ import annotations

import json as json_codec
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

ANSWER_SECONDS = 30.0
PATH_CHARACTERS = "/%:@!$&'()*+,;=~"
T = TypeVar("T")


class ConnectionLost(Exception):
    """The connection ended before a complete answer. Drivers throw it for :class:`Send` and :class:`Read`."""


class NotConnected(ConnectionLost):
    """No server listens at the address, or its certificate is invalid."""


class Step(Generic[T]):
    """An action of a driver for a call. Awaiting the step gives its result."""

    def __await__(self) -> Generator[Any, Any, T]:
        result: T = yield self
        return result


class Progress(Generic[T]):
    """The progress of a call: a driver iterates over its steps, and performs each in a ``with`` block.

    The block sets ``result``, which the call gets. An exception from the block is thrown into the call, and leaves the
    iteration unless the call catches it. After the iteration, ``value`` is the call's return value.
    """

    value: T

    def __init__(self, call: Coroutine[Any, Any, T]) -> None:
        self._call = call
        self.result: Any = None
        self._failure: BaseException | None = None

    def __iter__(self) -> Iterator[Step[Any]]:
        while True:
            result, failure = self.result, self._failure
            self.result = self._failure = None
            try:
                step = self._call.send(result) if failure is None else self._call.throw(failure)
            except StopIteration as end:
                self.value = end.value
                return
            yield step

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._failure = error
        return True


@dataclass(eq=False, repr=False)
class Response:
    """An answer; ``headers`` have lower-case names. ``content`` is empty if the body is streamed."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def is_success(self) -> bool:
        """Whether the status is a success."""
        return 200 <= self.status < 300


@dataclass(eq=False, repr=False)
class Send(Step[Response]):
    """Send a request. ``timeout_seconds`` bounds how long the server may be silent.

    With ``streamed`` a success is returned once its headers have arrived, and :class:`Read` gives its body.
    """

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    json: Any = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = ANSWER_SECONDS
    streamed: bool = False

    @property
    def target(self) -> str:
        """Path and query of the request line."""
        if not self.params:
            return quote(self.path, safe=PATH_CHARACTERS)
        written = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in self.params.items()
        }
        return quote(self.path, safe=PATH_CHARACTERS) + "?" + urlencode(written, doseq=True)

    @property
    def body(self) -> bytes | None:
        """The bytes to send. Raises ``ValueError`` for JSON with infinity or NaN."""
        if self.json is None:
            return self.content
        return json_codec.dumps(self.json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    @property
    def all_headers(self) -> dict[str, str]:
        """The request's own headers, with the type of a JSON body."""
        return {**self.headers, **({"Content-Type": "application/json"} if self.json is not None else {})}


@dataclass(eq=False, repr=False)
class Read(Step[bytes]):
    """The next bytes of the streamed response; ``b""`` at its end.

    ``timeout_seconds`` bounds the wait, if it is shorter than the request's own time-out.
    """

    timeout_seconds: float | None = None


@dataclass(eq=False, repr=False)
class Pause(Step[None]):
    """Wait."""

    seconds: float


@dataclass(eq=False, repr=False)
class Work(Step[T]):
    """Call a function that may block, such as one that reads a file."""

    function: Callable[[], T]


@dataclass(eq=False, repr=False)
class Await(Step[T]):
    """Await the value that a function of the caller has returned."""

    value: Awaitable[T]


@dataclass(eq=False, repr=False)
class Spawn(Step[None]):
    """Run another call beside this call, which does not wait for it. The other call raises nothing.

    The blocking driver runs the other call in a thread of its own; asyncio's in a task, which ends with this call.
    """

    call: Coroutine[Any, Any, None]


@dataclass(eq=False, repr=False)
class Next(Step[bytes | None]):
    """The next bytes from the caller's iterator, without a time-out; ``None`` at its end."""

    source: Iterator[bytes] | AsyncIterator[bytes]
