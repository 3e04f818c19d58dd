"""``python -m tests.readiness`` runs the proofs and prints each line; ``--page`` prints the document."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.readiness.checklist import load
from tests.readiness.page import page
from tests.readiness.proving import Outcome, State, judge, run

MARKS = {State.HOLDS: "holds  ", State.FAILS: "FAILS  ", State.UNPROVEN: "not here"}


def main() -> int:
    """The command line; 1 if a line does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.readiness", description=__doc__)
    parser.add_argument("--page", action="store_true", help="print docs/production-readiness.md")
    checklist = load()
    if parser.parse_args().page:
        sys.stdout.write(page(checklist))
        return 0
    outcomes = run(checklist)
    judged: list[tuple[str, Outcome]] = []
    for section in checklist.sections:
        print(f"\n{section.source}: {section.title}")
        for line in section.lines:
            outcome = judge(line, checklist, outcomes)
            judged.append((line.id, outcome))
            detail = f"\n           {outcome.detail}" if outcome.detail else ""
            print(f"  {MARKS[outcome.state]:8} {line.id.rpartition('/')[2]:>3} {line.text}{detail}")
    count = Counter(outcome.state for _, outcome in judged)
    print("\n" + ", ".join(f"{count[state]} {state}" for state in State) + f" ({len(outcomes)} commands)")
    for id, outcome in judged:
        if outcome.state is State.FAILS:
            print(f"  {id}: {outcome.detail}")
    return 1 if count[State.FAILS] else 0


if __name__ == "__main__":
    sys.exit(main())
