"""Counts a trajectory twice: with a tool's call in each turn, and as programs in Mayfly.

With Mayfly the model gets of a program's output what the product shows in a call's 500 tokens. A later argument, or the
answer, may have words and numbers that stand in what was withheld, and in nothing that the model has read: then each
piece of output with such a word is read first, some 500 tokens each, all of them in one turn. Words that are there by
chance are charged, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from orchestrator.mcp.budget import Material, Stream, count, render
from tests.bench.tokens.trajectories.composing import Composer, json_call
from tests.bench.tokens.trajectories.model import Trajectory, leaves, text_of

BUDGET = 500
PIECE_CHARACTERS = 1800  # of an output: some 500 tokens
WORD = re.compile(r"[A-Za-z_][\w.@/-]{4,}\w|\d[\d.,:-]+\d")  # words and numbers that tell something
CACHED = 0.1  # what a token costs that the vendor has in its cache
READ = json_call("read_output", {"execution_id": "0" * 32, "grep": "x" * 12})
READ_TOKENS = count(READ)
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


def shown_by_mayfly(output: str) -> str:
    """The view of a program with this output for a model."""
    printed = Stream.of(output.encode(errors="replace"))
    return render(Material("0" * 32, "succeeded", exit_code=0, stdout=printed), BUDGET, "text").text
