"""Suggestions for a name that was misspelt."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

MOST_COMPARED = 2000
MOST_CHARACTERS = 100  # names in full take up to 191; comparing costs the product of both lengths
LIKENESS = 0.6
SHORTEST = 3  # characters of a name that may stand for a longer one


def similar(name: str, known: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """At most ``most`` of the known names that are close to a name, the closest first, or that begin with it.

    Capitals, and ``-`` for ``_``, make no difference.
    """
    folded: dict[str, str] = {}
    for candidate in islice(known, MOST_COMPARED):
        folded.setdefault(_folded(candidate), candidate)
    wanted = _folded(name)
    close = get_close_matches(wanted, folded, most, LIKENESS)
    longer = [candidate for candidate in folded if len(wanted) >= SHORTEST and candidate.startswith(wanted)]
    return tuple(folded[match] for match in dict.fromkeys([*close, *longer]))[:most]


def _folded(name: str) -> str:
    return name[:MOST_CHARACTERS].lower().replace("-", "_")
