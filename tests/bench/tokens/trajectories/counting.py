"""Counts a trajectory twice: with a tool's call in each turn, and as programs in Mayfly.

With Mayfly the model gets of a program's output what the product shows in a call's 500 tokens. A later argument, or the
answer, may have words and numbers that stand in what was withheld, and in nothing that the model has read: then each
piece of output with such a word is read first, some 500 tokens each, all of them in one turn. Words that are there by
chance are charged, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from orchestrator.mcp.budget import Material, Stream, count, render
from tests.bench.tokens.trajectories.composing import Composer, json_call
from tests.bench.tokens.trajectories.model import Trajectory, leaves, text_of
from tests.bench.tokens.trajectories.written import Ran

BUDGET = 500
PIECE_CHARACTERS = 1800  # of an output: some 500 tokens
WORD = re.compile(r"[A-Za-z_][\w.@/-]{4,}\w|\d[\d.,:-]+\d")  # words and numbers that tell something
NAMED = re.compile(r'"([\w.@/-]+)\\*"\s*:')
CACHED = 0.1  # what a token costs that the vendor has in its cache
READ = json_call("read_output", {"execution_id": "0" * 32, "grep": "x" * 12})
READ_TOKENS = count(READ)
FURTHER = (
    "from mayfly import tools\ntext = str(tools.server.tool(name='value'))\nprint(text[text.find('word'):][:1800])"
)
FURTHER_TOKENS = count(json_call("execute_code", {"code": FURTHER, "tools": ["*"]}))
SEARCH_TOKENS = count(json_call("search_tools", {"query": "some words of the task"}))


class Turn(NamedTuple):
    """A turn of the model: tokens that the user wrote before, that the model wrote, and of the results that it got."""

    user: int
    written: int
    results: int
    is_program: bool = False


class Counted(NamedTuple):
    """One way through a trajectory."""

    catalogue: int
    turns: tuple[Turn, ...]

    @property
    def results(self) -> int:
        """Tokens of all results."""
        return sum(turn.results for turn in self.turns)

    @property
    def written(self) -> int:
        """Tokens that the model wrote to call tools."""
        return sum(turn.written for turn in self.turns)

    def sent(self, cached: float = 1.0) -> float:
        """Input tokens over all turns and the answer; what an earlier turn had sent counts ``cached`` each."""
        total, before, new = 0.0, 0, self.catalogue
        for turn in (*self.turns, Turn(0, 0, 0)):
            new += turn.user
            total += cached * before + new
            before, new = before + new, turn.written + turn.results
        return total


def direct(trajectory: Trajectory) -> Counted:
    """A call of a tool in each turn, as the trajectory has them."""
    turns = []
    for exchange in trajectory.exchanges:
        user = count(exchange.user)
        for calls in exchange.turns:
            written = sum(count(json_call(call.tool, call.arguments)) for call in calls)
            turns.append(Turn(user, written, sum(count(text_of(call.result)) for call in calls)))
            user = 0
    return Counted(trajectory.catalogue, tuple(turns))


def ours(trajectory: Trajectory, searches: Sequence[int], shown: Callable[[str], str], *, reads: bool) -> Counted:
    """As programs, after ``searches`` with so many tokens each; without Mayfly's own tools.

    ``shown`` is what the model gets of an output. Without ``reads`` nothing withheld is read: the bound that programs
    reach which print exactly what is needed.
    """
    composer, reader = Composer(), _Reader()
    turns = [Turn(0, SEARCH_TOKENS, tokens) for tokens in searches]
    for exchange in trajectory.exchanges:
        user = count(exchange.user)
        reader.read(exchange.user)
        for program in composer.programs(exchange):
            wanted = "\n".join(text_of(value) for call in program.calls for value in leaves(call.arguments))
            if reads and (pieces := reader.look_up(wanted)):
                turns.append(Turn(user, READ_TOKENS * len(pieces), sum(pieces)))
                user = 0
            text = shown(program.output)
            written = count(json_call("execute_code", {"code": program.code, "tools": ["*"]}))
            turns.append(Turn(user, written, count(text), is_program=True))
            user = 0
            reader.read(text, program.code)
            reader.withhold(program.output)
        if reads and (pieces := reader.look_up(exchange.answer)):
            turns.append(Turn(user, READ_TOKENS * len(pieces), sum(pieces)))
            user = 0
        reader.read(exchange.answer)
    return Counted(0, tuple(turns))


def by_hand(trajectory: Trajectory, ran: Sequence[Ran], searches: Sequence[int], *, reads: bool) -> Counted:
    """As the programs that were written by hand, after ``searches`` with so many tokens each.

    A word or number of a later program, or of the answer, that stands in a result and in nothing that the model has
    read costs a further program that prints some 500 tokens around it, with ``reads``. Names of fields count as read:
    signatures have them. The user asks once: a run's later messages repeat the task after its context was full.
    """
    reader = _Reader()
    turns = [Turn(0, SEARCH_TOKENS, tokens) for tokens in searches]
    user = count(trajectory.exchanges[0].user)
    reader.read(trajectory.exchanges[0].user)
    for one in ran:
        if reads and (pieces := reader.look_up("\n".join(constants(one.code)))):
            turns.append(Turn(user, FURTHER_TOKENS * len(pieces), sum(pieces)))
            user = 0
        shown = shown_by_mayfly(one.printed, one.most_tokens)
        asked = {"max_output_tokens": one.most_tokens} if one.most_tokens != BUDGET else {}
        written = count(json_call("execute_code", {"code": one.code, "tools": ["*"], **asked}))
        turns.append(Turn(user, written, count(shown), is_program=True))
        user = 0
        reader.read(shown, one.code)
        for result in one.results:
            reader.read(*_names(result))
            reader.withhold(text_of(result))
    if reads and (pieces := reader.look_up(trajectory.exchanges[-1].answer)):
        turns.append(Turn(user, FURTHER_TOKENS * len(pieces), sum(pieces)))
    return Counted(0, tuple(turns))


def constants(code: str) -> Iterator[str]:
    """The texts and numbers in a program, but for names of arguments."""
    nodes = list(ast.walk(ast.parse(code)))
    unpacked = [node.value for node in nodes if isinstance(node, ast.keyword) and node.arg is None]
    names = {id(name) for value in unpacked if isinstance(value, ast.Dict) for name in value.keys}
    for node in nodes:
        if isinstance(node, ast.Constant) and id(node) not in names:
            yield str(node.value)


def _names(value: Any) -> Iterator[str]:
    """The names of the fields of a result, also of one that is cut and no longer JSON."""
    if isinstance(value, str):
        yield from NAMED.findall(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner)


class _Reader:
    """The text that the model has read, and pieces of outputs that it could read further."""

    def __init__(self) -> None:
        self._read = ""
        self._pieces: list[str] = []

    def read(self, *texts: str) -> None:
        self._read += "\n".join(("", *texts))

    def withhold(self, output: str) -> None:
        self._pieces += [output[at : at + PIECE_CHARACTERS] for at in range(0, len(output), PIECE_CHARACTERS)]

    def look_up(self, wanted: str) -> list[int]:
        """Read the pieces that have wanted words which were not read yet; the tokens of each."""
        found = []
        for word in dict.fromkeys(WORD.findall(wanted)):
            if word in self._read:
                continue
            piece = next((piece for piece in reversed(self._pieces) if word in piece), None)
            if piece is not None:
                self.read(piece)
                found.append(count(piece))
        return found


def shown_by_mayfly(output: str, most_tokens: int = BUDGET) -> str:
    """The view of a program with this output for a model."""
    printed = Stream.of(output.encode(errors="replace"))
    return render(Material("0" * 32, "succeeded", exit_code=0, stdout=printed), most_tokens, "text").text
