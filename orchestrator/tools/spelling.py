"""Suggestions for a name that was misspelt. Names come from tool servers and programs, so the work is bounded."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import islice

MOST_COMPARED = 2000
MOST_CHARACTERS = 100  # names in full take up to 191
MOST_MATCHED = 20  # names with the most common characters, whose order is compared at cubic cost
LIKENESS = 0.6
SHORTEST = 3  # characters of a name that counts as the beginning of a longer name


def similar(name: str, known: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """At most ``most`` of the known names that are similar to a name, the closest first, or that begin with it.

    Capitals, and ``-`` for ``_``, make no difference.
    """
    folded: dict[str, str] = {}
    for candidate in islice(known, MOST_COMPARED):
        folded.setdefault(_folded(candidate), candidate)
    wanted = _folded(name)
    close = _close(wanted, folded, most)
    longer = [candidate for candidate in folded if len(wanted) >= SHORTEST and candidate.startswith(wanted)]
    return tuple(folded[match] for match in dict.fromkeys([*close, *longer]))[:most]


def _close(wanted: str, names: Iterable[str], most: int) -> list[str]:
    """The closest names, as ``difflib.get_close_matches`` finds them among those with the most common characters."""
    matcher: SequenceMatcher[str] = SequenceMatcher()
    matcher.set_seq2(wanted)
    likely: list[tuple[float, str]] = []
    for name in names:
        matcher.set_seq1(name)
        if matcher.real_quick_ratio() >= LIKENESS and (common := matcher.quick_ratio()) >= LIKENESS:
            likely.append((common, name))
    found: list[tuple[float, str]] = []
    for _, name in heapq.nlargest(MOST_MATCHED, likely):
        matcher.set_seq1(name)
        if (likeness := matcher.ratio()) >= LIKENESS:
            found.append((likeness, name))
    return [name for _, name in heapq.nlargest(most, found)]


def _folded(name: str) -> str:
    return name[:MOST_CHARACTERS].lower().replace("-", "_")
