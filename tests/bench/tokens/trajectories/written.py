"""Programs that were written by hand for the 30 runs of Toolathlon, and are checked against the recorded runs.

``programs/ID.txt`` begins with notes: ``changes`` numbers the run's calls that make its end state; ``leaves`` its calls
of tools that may change something, but did nothing that stays, with the reason; ``unordered`` is why the order of the
changes does not matter. After each line ``---``, with the tokens of output that its author asks for if they are not
500, there is a program. In a program ``<<7.code>>`` stands for the argument ``code`` of the run's call 7, counted from
0, and ``<<7>>`` for all arguments of that call: what the model of the run wrote, whose text belongs to others. It is
counted as a part of the program.

The programs are run on the recorded results. They may read whatever the run read, in any order; they must make its
changes, with the same arguments, in the same order, and no other.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.tokens.trajectories.composing import Program
from tests.bench.tokens.trajectories.model import Call, text_of
from tests.bench.tokens.trajectories.replaying import ToolFailed, run

PROGRAMS = Path(__file__).with_name("programs")
TOKENS = 500
PLACE = re.compile(r"<<(\d+)((?:\.\w+)*)>>")


class Text(NamedTuple):
    """A program before its places are filled, and the tokens of output that its author asks for."""

    code: str
    most_tokens: int


class Written(NamedTuple):
    """The programs of one run. ``changes`` and ``leaves`` are numbers of its calls."""

    changes: tuple[int, ...]
    leaves: frozenset[int]
    in_order: bool
    programs: tuple[Text, ...]


class Ran(NamedTuple):
    """A program that was run: its whole text, its output, and the results that it got."""

    code: str
    most_tokens: int
    printed: str
    results: tuple[Any, ...]


def written(id: str) -> Written:
    """The programs of a run."""
    return parsed((PROGRAMS / f"{id}.txt").read_text(encoding="utf-8"))


def parsed(text: str) -> Written:
    """The programs of a file."""
    notes, *parts = re.split(r"^---[ ]?(.*)\n", text, flags=re.MULTILINE)
    named = {line.split()[0].rstrip(":"): line.partition(":")[0] for line in notes.splitlines() if line.strip()}
    changes, leaves = (tuple(map(int, named.get(name, name).split()[1:])) for name in ("changes", "leaves"))
    programs = tuple(Text(code, int(asked or TOKENS)) for asked, code in zip(parts[::2], parts[1::2], strict=True))
    return Written(changes, frozenset(leaves), "unordered" not in named, programs)


def checked(calls: tuple[Call, ...], by_hand: Written) -> list[Ran]:
    """Run the programs. Raises ``AssertionError`` if they end in another state than the calls."""
    for number, call in enumerate(calls):
        known = call.reads or call.failed or number in by_hand.leaves
        assert known != (number in by_hand.changes) or call.reads, (number, call.tool)
    recorded = Replay(calls, by_hand)
    found = []
    for text in by_hand.programs:
        code = filled(text.code, calls)
        printed = run(Program(code, (), ""), recorded)
        found.append(Ran(code, text.most_tokens, printed, tuple(recorded.results)))
        recorded.results.clear()
    assert not recorded.left, [(number, calls[number].tool) for number in recorded.left]
    return found


def filled(code: str, calls: tuple[Call, ...]) -> str:
    """A program with the run's words in its places."""

    def value(place: re.Match[str]) -> str:
        found: Any = calls[int(place[1])].arguments
        for name in filter(None, place[2].split(".")):
            found = found[int(name)] if isinstance(found, list) else found[name]
        return repr(found)

    return PLACE.sub(value, code)


class Replay:
    """Answers the calls of programs with the recorded results. Raises ``AssertionError`` for any other call."""

    def __init__(self, calls: tuple[Call, ...], by_hand: Written) -> None:
        self._calls, self._by_hand = calls, by_hand
        self._used: set[int] = set()
        self._last = -1
        self.left = list(by_hand.changes)
        self.results: list[Any] = []

    def __call__(self, tool: str, arguments: dict[str, Any]) -> Any:
        name = f"recorded.{tool.replace('.', '_')}"
        found = [n for n, call in enumerate(self._calls) if (call.tool, call.arguments) == (name, arguments)]
        assert found, (name, arguments)
        due = self.left[:1] if self._by_hand.in_order else self.left
        number = next((n for n in found if n in due), None)
        if number is not None:
            self.left.remove(number)
        else:
            free = [n for n in found if n not in self._by_hand.changes]
            assert free, f"{name} changes something out of turn"
            unused = [n for n in free if n not in self._used]
            number = min(unused or free[-1:], key=lambda n: (n < self._last, n))  # the next one, as of pages of a list
        self._used.add(number)
        self._last = number
        call = self._calls[number]
        self.results.append(call.result)
        if call.failed:
            raise ToolFailed(text_of(call.result))
        return call.result
