"""Composes programs from the calls of a trajectory, by rules that know nothing of the task.

A program may only use what its author knows: literals of the user's words, of what earlier programs printed, and of
the author's own making; and values at a place of a result that it can name unread, as ``r2["user"]["id"]``. An element
of several is a choice, so a list of more than one is no such place. Where an argument is found in a result of the same
program but not at such a place, the author must read the result first, and the program ends before the call. It also
ends before a call that changes something after calls that only read, and after a call that failed.

Each program prints all of its results. This is the least that code mode does: no filter, no sum, no early exit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from orchestrator.tools.names import is_identifier
from tests.bench.tokens.trajectories.model import Call, Exchange, leaves, text_of

LEAST_TEXT, LEAST_NUMBER = 4, 100  # shorter text and smaller numbers need no source
MOST_NODES = 20_000  # of a result that is searched for a value
LOOP = 3  # calls of one tool that are written as a loop
PRELUDE = "import json\nfrom mayfly import tools\n"


class Program(NamedTuple):
    """A program: its text, the calls that it makes, and what it prints."""

    code: str
    calls: tuple[Call, ...]
    output: str


class Composer:
    """Composes the programs of one trajectory, exchange by exchange."""

    def __init__(self) -> None:
        self._seen = ""  # everything that the author has read

    def programs(self, exchange: Exchange) -> list[Program]:
        """The programs of one exchange."""
        self._seen += f"\n{exchange.user}"
        found: list[Program] = []
        waiting: list[Call] = []
        for call in exchange.calls:
            if waiting and self._must_read_before(call, waiting):
                found.append(self._end(waiting))
                waiting = []
            waiting.append(call)
            if call.failed:
                found.append(self._end(waiting))
                waiting = []
        if waiting:
            found.append(self._end(waiting))
        return found

    def _must_read_before(self, call: Call, waiting: list[Call]) -> bool:
        if not call.reads and any(before.reads for before in waiting):
            return True
        return any(
            not self._is_known(value)
            and place_of(value, waiting) is None
            and any(text_of(value) in text_of(before.result) for before in waiting)
            for value in leaves(call.arguments)
            if is_telling(value)
        )

    def _is_known(self, value: Any) -> bool:
        return text_of(value) in self._seen

    def _end(self, calls: list[Call]) -> Program:
        """Write the program, and read what it prints."""
        output = "\n".join(text_of(call.result) for call in calls)
        code = self._code(calls)
        self._seen += f"\n{output}\n{code}"
        return Program(code, tuple(calls), output)

    def _code(self, calls: list[Call]) -> str:
        lines = [PRELUDE]
        place = 0
        while place < len(calls):
            many, before = _run_of_one_tool(calls, place), calls[:place]
            if many >= LOOP:
                written = [self._value(call.arguments, before) for call in calls[place : place + many]]
                lines.append(f"r{place} = [tools.{calls[place].tool}(**a) for a in [{', '.join(written)}]]")
                lines.append(f"print(*map(json.dumps, r{place}), sep='\\n')")
            else:
                many = 1
                lines.append(f"r{place} = tools.{calls[place].tool}({self._given(calls[place], before)})")
                lines.append(f"print(json.dumps(r{place}))")
            place += many
        return "\n".join(lines)

    def _given(self, call: Call, before: list[Call]) -> str:
        """The arguments of one call: named where Python can name all of them."""
        if not all(is_identifier(name) for name in call.arguments):
            return self._value(call.arguments, before)
        return ", ".join(f"{name}={self._value(value, before)}" for name, value in call.arguments.items())

    def _value(self, value: Any, before: list[Call]) -> str:
        if isinstance(value, dict):
            return f"{{{', '.join(f'{name!r}: {self._value(inner, before)}' for name, inner in value.items())}}}"
        if isinstance(value, list):
            return f"[{', '.join(self._value(inner, before) for inner in value)}]"
        if is_telling(value) and not self._is_known(value) and (place := place_of(value, before)) is not None:
            return place
        return repr(value)


def is_telling(value: Any) -> bool:
    """Whether a value must come from a text or a result."""
    if isinstance(value, bool) or value is None:
        return False
    if isinstance(value, int | float):
        return abs(value) >= LEAST_NUMBER
    return isinstance(value, str) and len(value) >= LEAST_TEXT


def place_of(value: Any, calls: Iterable[Call]) -> str | None:
    """The place of a value in the results of a program's calls, as an expression of the program."""
    known = list(calls)
    starts = _starts(known)
    for at, call in enumerate(known):
        start = starts[at]
        name = f"r{start[0]}" if start[1] is None else f"r{start[0]}[{start[1]}]"
        found = _path(value, call.result)
        if found is not None:
            return name + found
    return None


def _starts(calls: list[Call]) -> list[tuple[int, int | None]]:
    """For each call the number of its variable, and its place in the variable's list if a loop makes the call."""
    found: list[tuple[int, int | None]] = []
    place = 0
    while place < len(calls):
        many = _run_of_one_tool(calls, place)
        if many >= LOOP:
            found += [(place, at) for at in range(many)]
        else:
            many = 1
            found.append((place, None))
        place += many
    return found


def _run_of_one_tool(calls: list[Call], place: int) -> int:
    """The number of calls of one tool in a row, of which none needs a result of the others."""
    end = place + 1
    while end < len(calls) and calls[end].tool == calls[place].tool and not _needs(calls[end], calls[place:end]):
        end += 1
    return end - place


def _needs(call: Call, others: list[Call]) -> bool:
    values = [value for value in leaves(call.arguments) if is_telling(value)]
    return any(_path(value, other.result) is not None for value in values for other in others)


def _path(value: Any, result: Any) -> str | None:
    """Where a value is in a result, breadth first: ``""`` for the result itself."""
    level: list[tuple[str, Any]] = [("", result)]
    looked = 0
    while level:
        deeper: list[tuple[str, Any]] = []
        for path, node in level:
            looked += 1
            if looked > MOST_NODES:
                return None
            if type(node) is type(value) and node == value:
                return path
            if isinstance(node, dict):
                deeper += [(f"{path}[{name!r}]", inner) for name, inner in node.items()]
            elif isinstance(node, list) and len(node) == 1:
                deeper.append((f"{path}[0]", node[0]))
        level = deeper
    return None


def json_call(name: str, arguments: dict[str, Any]) -> str:
    """A call as a model writes it in its turn."""
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
