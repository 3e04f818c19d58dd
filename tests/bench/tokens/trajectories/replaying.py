"""Runs composed programs on tools that answer: recorded results, or the simulators of a benchmark."""

from __future__ import annotations

import contextlib
import io
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from tests.bench.tokens.trajectories.composing import Program
from tests.bench.tokens.trajectories.model import Call

Answer = Callable[[str, dict[str, Any]], Any]


class ToolFailed(Exception):
    """The exception of a failed call in a program."""


class Tools:
    """``tools.server.tool(name=value)``, as in a sandbox."""

    def __init__(self, answer: Answer, path: tuple[str, ...] = ()) -> None:
        self._answer, self._path = answer, path

    def __getattr__(self, name: str) -> Tools:
        return Tools(self._answer, (*self._path, name))

    def __call__(self, arguments: dict[str, Any] | None = None, /, **named: Any) -> Any:
        return self._answer(".".join(self._path), {**(arguments or {}), **named})


def run(program: Program, answer: Answer) -> str:
    """Run a program's text; returns what it printed. A failed last call ends it, as in a sandbox."""
    module = types.ModuleType("mayfly")
    vars(module)["tools"] = Tools(answer)
    before, printed = sys.modules.get("mayfly"), io.StringIO()
    sys.modules["mayfly"] = module
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(ToolFailed):
            exec(compile(program.code, "program", "exec"), {"__name__": "__main__"})
    finally:
        del sys.modules["mayfly"]
        if before is not None:
            sys.modules["mayfly"] = before
    return printed.getvalue()


class Recorded:
    """Answers calls with recorded results, in their order. Raises ``AssertionError`` for any other call."""

    def __init__(self, calls: tuple[Call, ...]) -> None:
        self._left: Iterator[Call] = iter(calls)

    def __call__(self, tool: str, arguments: dict[str, Any]) -> Any:
        expected = next(self._left, None)
        assert expected is not None, f"{tool} is called after the last call"
        assert (tool, arguments) == (expected.tool, expected.arguments), (tool, arguments, expected[:2])
        if expected.failed:
            raise ToolFailed
        return expected.result

    def is_used_up(self) -> bool:
        """Whether all calls were made."""
        return next(self._left, None) is None
