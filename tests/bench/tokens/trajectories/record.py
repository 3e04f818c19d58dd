r"""Makes ``counts.json.xz``: counts every trajectory, and checks that its programs do what the calls did.

    python -m tests.bench.tokens.trajectories.record --tau2-retail SITE-PACKAGES --tau2-airline SITE-PACKAGES \
        --bfcl UNPACKED-WHEEL --toolathlon GIT-DIRECTORY

Only counts are kept: the texts belong to others. Every program is run twice where the benchmark has a simulator: on the
recorded results, with which it must make the same calls in the same order, and on a fresh simulator, which must end in
the same state as after the calls.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.mcp.budget import count
from orchestrator.models.tools import Catalogue, Tool
from orchestrator.tools.index.search import Query, ToolIndex, search
from tests.bench.tokens.catalogues import LISTED
from tests.bench.tokens.trajectories.bfcl import bfcl
from tests.bench.tokens.trajectories.composing import Composer
from tests.bench.tokens.trajectories.counting import BUDGET, Counted, by_hand, direct, ours, shown_by_mayfly
from tests.bench.tokens.trajectories.replaying import Recorded, run
from tests.bench.tokens.trajectories.source import Source, called
from tests.bench.tokens.trajectories.tau2 import tau2
from tests.bench.tokens.trajectories.toolathlon import toolathlon
from tests.bench.tokens.trajectories.written import checked, written

COUNTS = Path(__file__).with_name("counts.json.xz")
TOOLS_A_SEARCH, ANSWER_TOKENS = 4, 350  # needed tools in an answer, and its size, where the catalogue is not recorded


def counted(kind: str, source: Source) -> dict[str, Any]:
    """The counts of one trajectory. Raises ``AssertionError`` if its programs do something else."""
    trajectory = source.trajectory
    composer = Composer()
    programs = [program for exchange in trajectory.exchanges for program in composer.programs(exchange)]
    recorded = Recorded(trajectory.calls)
    for program in programs:
        run(program, recorded)
    assert recorded.is_used_up(), trajectory.id
    if source.simulator is not None:
        one, other = source.simulator(), source.simulator()
        for call in trajectory.calls:
            assert called(one, call.tool, call.arguments) == call
        for program in programs:
            run(program, other.answer)
        assert one.state() == other.state(), trajectory.id
    searches = _searches(source)
    ran = checked(trajectory.calls, written(trajectory.id)) if source.simulator is None else []
    return {
        "kind": kind,
        "id": trajectory.id,
        "calls": len(trajectory.calls),
        "programs": len(programs),
        "checked": "state" if source.simulator else "calls",
        "direct": _kept(direct(trajectory)),
        "ours": _kept(ours(trajectory, searches, shown_by_mayfly, reads=True)),
        "exact": _kept(ours(trajectory, searches, shown_by_mayfly, reads=False)),
        **(
            {"by hand": [_kept(by_hand(trajectory, ran, searches, reads=reads)) for reads in (True, False)]}
            if ran
            else {}
        ),
    }


def _kept(found: Counted) -> dict[str, Any]:
    return {"catalogue": found.catalogue, "turns": [list(turn) for turn in found.turns]}


def _searches(source: Source) -> Sequence[int]:
    """The tokens of the answers of ``search_tools`` that show every tool of the trajectory.

    A query is a needed tool's name in words; the next is for a tool that no answer has shown yet.
    """
    needed = list(dict.fromkeys(call.tool.partition(".")[2] for call in source.trajectory.calls))
    if not source.tools:
        return [ANSWER_TOKENS] * -(-len(needed) // TOOLS_A_SEARCH)
    tools = tuple(_tool(definition) for definition in source.tools)
    index = ToolIndex([Catalogue(server="bench", state="ready", tools=tools, since=LISTED)], ("*",))
    shown: set[str] = set()
    answers = []
    for name in needed:
        if name not in shown:
            found = search(index, Query(query=re.sub(r"[_-]", " ", name)), count=count, max_tokens=BUDGET)
            shown |= {match.tool.name for match in found.matches} | {name}
            answers.append(found.tokens)
    return answers


def _tool(definition: dict[str, Any]) -> Tool:
    schema = definition.get("inputSchema") or {**definition["parameters"], "type": "object"}
    return Tool(server="bench", name=definition["name"], description=definition["description"], input_schema=schema)


def main() -> None:
    """Read the sources that are given, and write the counts of all of them."""
    parser = argparse.ArgumentParser(prog="record", description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("tau2-retail", "tau2-airline", "bfcl", "toolathlon"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    kinds: list[tuple[str, Iterable[Source]]] = [
        ("tau2 retail", tau2("retail", options.tau2_retail)),
        ("tau2 airline", tau2("airline", options.tau2_airline)),
        ("BFCL base", bfcl("base", options.bfcl)),
        ("BFCL long context", bfcl("long_context", options.bfcl)),
        ("Toolathlon", toolathlon(options.toolathlon)),
    ]
    rows = []
    for kind, sources in kinds:
        found = [counted(kind, source) for source in sources]
        print(f"{kind}: {len(found)} trajectories, {sum(row['calls'] for row in found)} calls, all checked", flush=True)
        rows += found
    text = json.dumps(rows, separators=(",", ":"))
    COUNTS.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
