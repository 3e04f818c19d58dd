"""``make bench-tokens``: prints the figures of docs/tokens.md; ``--publish`` puts them there.

Everything is counted from files in the repository: the figures are equal on each machine and in each run.
"""

from __future__ import annotations

import argparse

from tests.bench.publishing import published
from tests.bench.tokens.static import Static
from tests.bench.tokens.trajectories.whole import losses_text, trajectories_text
from tests.harness import ROOT

DOCUMENT = ROOT / "docs" / "tokens.md"


def sections() -> dict[str, str]:
    """The generated sections of the document by their names."""
    return {"catalogues": Static().text(), "trajectories": trajectories_text(), "losses": losses_text()}


def main() -> None:
    """Count, print, and publish."""
    parser = argparse.ArgumentParser(prog="make bench-tokens", description=__doc__)
    parser.add_argument("--publish", action="store_true", help="also write the figures into docs/tokens.md")
    options = parser.parse_args()
    found = sections()
    for name, text in found.items():
        print(f"## {name}\n\n{text}")
    if options.publish:
        DOCUMENT.write_text(published(DOCUMENT.read_text(), found))


if __name__ == "__main__":
    main()
