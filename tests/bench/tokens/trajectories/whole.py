"""Parts 2 and 3: the figures of whole trajectories, from the counts that ``record`` made."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from orchestrator.mcp.budget import count
from orchestrator.mcp.definitions import TOOLS
from tests.bench.tokens.catalogues import listed
from tests.bench.tokens.distribution import HEADINGS, Distribution, table
from tests.bench.tokens.static import direct_tokens
from tests.bench.tokens.trajectories.counting import CACHED, SEARCH_TOKENS, Counted, Turn
from tests.bench.tokens.trajectories.record import COUNTS

LARGE = 20_000  # tokens of results
ERROR_TOKENS = 150  # what a model gets of a program that failed: the error, its place, and what to change
Measure = Callable[[Counted], float]
MEASURES: tuple[tuple[str, Measure], ...] = (
    ("results", lambda way: way.results),
    ("written", lambda way: way.written),
    ("sent", lambda way: way.sent()),
    ("sent, cached", lambda way: way.sent(CACHED)),
)


class Row(NamedTuple):
    """One trajectory: a call in each turn, and programs. ``ours`` are those by hand where there are any, else by rules.

    ``exact`` is the same without further reads.
    """

    kind: str
    calls: int
    programs: int
    checked: str
    direct: Counted
    ours: Counted
    exact: Counted
    by_rules: Counted
    by_rules_exact: Counted


@cache
def rows() -> tuple[Row, ...]:
    """All trajectories; ours with the tools of Mayfly's MCP server as they are now."""
    return tuple(_row(found, own_tokens()) for found in json.loads(lzma.decompress(COUNTS.read_bytes())))


def _row(found: dict[str, Any], own: int) -> Row:
    by_rules = [_way(found[name], own) for name in ("ours", "exact")]
    by_hand = [_way(way, own) for way in found.get("by hand", [])] or by_rules
    programs = sum(turn.is_program for turn in by_hand[0].turns)
    direct = _way(found["direct"], found["direct"]["catalogue"])
    return Row(found["kind"], found["calls"], programs, found["checked"], direct, *by_hand, *by_rules)


def own_tokens() -> int:
    """The definitions of Mayfly's MCP server."""
    tools = [tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in TOOLS]
    return count(json.dumps(tools, separators=(",", ":")))


def _way(found: dict[str, Any], catalogue: int) -> Counted:
    return Counted(catalogue, tuple(Turn(*turn) for turn in found["turns"]))


OTHERS: tuple[tuple[str, Callable[[Row], Counted]], ...] = (
    ("exact", lambda row: row.exact),
    ("by rules", lambda row: row.by_rules),
    ("by rules, exact", lambda row: row.by_rules_exact),
)


def classes() -> dict[str, list[Row]]:
    """The trajectories by their source, those with large results, and all."""
    found: dict[str, list[Row]] = {}
    for row in rows():
        found.setdefault(row.kind, []).append(row)
    large = [row for row in rows() if row.direct.results > LARGE]
    return {**found, f"results over {LARGE:,} tokens": large, "all": list(rows())}


def trajectories_text() -> str:
    """Part 2: the whole sample, as it is."""
    sizes = [
        [
            name,
            str(len(found)),
            f"{sum(row.calls for row in found):,}",
            f"{sum(row.programs for row in found):,}",
            _median(found, lambda row: len(row.direct.turns)),
            _median(found, lambda row: len(row.ours.turns)),
            _median(found, lambda row: row.direct.results),
            _median(found, lambda row: row.ours.results),
            _median(found, lambda row: row.direct.sent()),
            _median(found, lambda row: row.ours.sent()),
        ]
        for name, found in classes().items()
    ]
    headings = ("trajectories", "number", "calls", "programs", "turns", "Mayfly", "results", "Mayfly", "sent", "Mayfly")
    parts = [table(headings, sizes)]
    for name, measure in MEASURES:
        shares = [[kind, *_shares(found, measure, lambda row: row.ours)] for kind, found in classes().items()]
        for way, ours in OTHERS:
            if name != "written" or way == "by rules":
                shares += [[f"{kind}, {way}", *_shares(found, measure, ours)] for kind, found in _large().items()]
        parts.append(table((f"Mayfly in % of direct: {name}", *HEADINGS, "of all tokens"), shares))
    return "\n".join(parts)


def _large() -> dict[str, list[Row]]:
    return {kind: found for kind, found in classes().items() if kind.startswith(("Toolathlon", "results"))}


def losses_text() -> str:
    """Part 3: where programs cost more."""
    few = [row for row in rows() if row.calls <= 2]
    small = [row for row in rows() if row.direct.results <= 500]
    cases: list[tuple[str, Sequence[Row], Callable[[Row], Counted]]] = [
        ("one or two calls", few, lambda row: row.ours),
        ("at most 500 tokens of results", small, lambda row: row.ours),
        ("the first program is wrong", rows(), lambda row: wrong_first(row.ours, 1)),
        ("each program is wrong once", rows(), lambda row: wrong_first(row.ours, row.programs)),
    ]
    parts = []
    for name, measure in MEASURES:
        found = [
            [
                f"{case} ({len(chosen)})",
                *_shares(chosen, measure, way),
                f"{sum(measure(way(row)) > measure(row.direct) for row in chosen)} of {len(chosen)}",
            ]
            for case, chosen, way in cases
        ]
        parts.append(table((f"Mayfly in % of direct: {name}", *HEADINGS, "of all tokens", "Mayfly costs more"), found))
    return "\n".join([_few_tools(), *parts])


def _few_tools() -> str:
    sizes = [sum(map(direct_tokens, server.tools)) for server in listed()]
    lines = []
    for name, cached in (("without a cache", 1.0), ("with a cache", CACHED)):
        least = break_even(cached)
        losing = sum(size < least for size in sizes)
        lines.append(
            f"- A task of one call whose result has 100 tokens costs less with direct calls, {name}, if the catalogue "
            f"has fewer than {least:,} tokens; {losing} of the 20 servers have such a catalogue."
        )
    return "\n".join(lines) + "\n"


def one_call(catalogue: int, cached: float) -> tuple[float, float]:
    """Input of a task with one call and a result of 100 tokens: with a catalogue sent directly, and ours."""
    direct = Counted(catalogue, (Turn(50, 40, 100),))
    searched = Counted(own_tokens(), (Turn(50, SEARCH_TOKENS, 450), Turn(0, 90, 100, is_program=True)))
    return direct.sent(cached), searched.sent(cached)


def break_even(cached: float) -> int:
    """The smallest catalogue in tokens with which a task of one call costs less with us."""
    least = 0
    while True:
        sent, ours = one_call(least, cached)
        if sent > ours:
            return least
        least += 1


def wrong_first(way: Counted, programs: int) -> Counted:
    """The same way with the first ``programs`` programs failing once: written again after an error was read."""
    turns: list[Turn] = []
    left = programs
    for turn in way.turns:
        if left and turn.is_program:
            turns += [turn._replace(results=ERROR_TOKENS), turn._replace(user=0)]
            left -= 1
        else:
            turns.append(turn)
    return way._replace(turns=tuple(turns))


def _shares(found: Sequence[Row], measure: Measure, way: Callable[[Row], Counted]) -> list[str]:
    shares = [measure(way(row)) / max(1.0, measure(row.direct)) for row in found]
    total = sum(measure(way(row)) for row in found) / sum(measure(row.direct) for row in found)
    return [*Distribution.of(shares).cells(".0%"), f"{total:.0%}"]


def _median(found: Sequence[Row], value: Callable[[Row], float]) -> str:
    return f"{Distribution.of([value(row) for row in found]).median:,.0f}"
