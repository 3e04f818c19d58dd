"""``make bench-tokens``: prints the figures of docs/tokens.md; ``--publish`` puts them there.

Everything is counted from files in the repository: the figures are equal on each machine and in each run.
"""

from __future__ import annotations

import argparse
import re

from tests.bench.tokens.static import Static
from tests.bench.tokens.trajectories.whole import losses_text, trajectories_text
from tests.harness import ROOT

DOCUMENT = ROOT / "docs" / "tokens.md"


def sections() -> dict[str, str]:
    """The generated sections of the document by their names."""
    return {"catalogues": Static().text(), "trajectories": trajectories_text(), "losses": losses_text()}


def marked(name: str, text: str) -> str:
    """A section between its marks."""
    return f"<!-- begin {name} -->\n{text.rstrip()}\n<!-- end {name} -->"


def published(document: str, found: dict[str, str]) -> str:
    """The document with these sections in place of what was between their marks."""
    for name, text in found.items():
        pattern = re.compile(f"<!-- begin {name} -->\n.*?<!-- end {name} -->", re.DOTALL)
        document, replaced = pattern.subn(marked(name, text).replace("\\", r"\\"), document)
        if replaced != 1:
            raise ValueError(f"{DOCUMENT.name} has {replaced} places for {name!r} instead of one.")
    return document


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
