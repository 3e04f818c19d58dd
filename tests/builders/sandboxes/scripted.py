"""A driver of the SDK's calls that answers from a script, and keeps what was asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any, TypeVar

from mayfly.calls import Calls
from mayfly.client import PATIENCE_SECONDS, Driver
from mayfly.exchange import Exchange
from mayfly.steps import Await, Next, Pause, Read, Response, Send, Spawn, Step, Work

T = TypeVar("T")
Scripted = Response | Exception | Sequence[bytes | Exception]
URL = "http://api.example"


def answer(status: int = 200, document: Any = None, **headers: str) -> Response:
    """A whole answer; underscores in names of headers stand for hyphens."""
    content = b"" if document is None else json.dumps(document).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


class Script(Driver):
    """Each request gets the next answer, which is a response, an exception, or a list of pieces and exceptions.

    A pause passes at once: ``now`` moves on by its seconds. A call beside another is run when it is spawned.
    """

    def __init__(self, *answers: Scripted) -> None:
        self._answers = list(answers)
        self._pieces: list[bytes | Exception] = []
        self.sent: list[Send] = []
        self.pauses: list[float] = []
        self.now = 1000.0
        self.calls = Calls(Exchange(URL, "t", PATIENCE_SECONDS, lambda: self.now))

    def take(self, step: Step[Any]) -> Any:
        match step:
            case Send():
                self.sent.append(step)
                return self._answered(self._answers.pop(0))
            case Read():
                return self._given(self._pieces.pop(0)) if self._pieces else b""
            case Pause(seconds):
                self.pauses.append(seconds)
                self.now += seconds
                return None
            case Work(function):
                return function()
            case Await(value):
                return asyncio.run(_awaited(value))
            case Spawn(call):
                return self.complete(call)
            case Next(source):
                return next(source, None)  # type: ignore[arg-type]
        raise AssertionError(step)

    def _answered(self, given: Scripted) -> Response:
        if isinstance(given, Sequence):
            self._pieces = list(given)
            return Response(200)
        response: Response = self._given(given)
        return response

    def _given(self, given: Any) -> Any:
        if isinstance(given, Exception):
            raise given
        return given

    def all_of(self, generator: AsyncGenerator[T, None]) -> list[T]:
        """Every item of a call that iterates. What is raised on the way is raised."""
        found = []
        try:
            while True:
                found.append(self.complete(generator.__anext__()))
        except StopAsyncIteration:
            return found


async def _awaited(value: Awaitable[T]) -> T:
    return await value
