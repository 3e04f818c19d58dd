"""Distributions of counts: medians and tails instead of averages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Distribution(NamedTuple):
    """The smallest value, quartiles, the ninetieth percentile and the largest value of ``size`` values."""

    size: int
    least: float
    lower: float
    median: float
    upper: float
    p90: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Distribution:
        """The distribution of at least one value; percentiles are values that occur (nearest rank)."""
        ordered = sorted(values)
        lower, median, upper, p90 = (
            ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in (0.25, 0.5, 0.75, 0.9)
        )
        return cls(len(ordered), ordered[0], lower, median, upper, p90, ordered[-1])

    def cells(self, form: str = ",.0f") -> list[str]:
        """The values as cells of a table, without the size."""
        return [format(value, form) for value in self[1:]]


HEADINGS = ("minimum", "lower quartile", "median", "upper quartile", "p90", "maximum")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; all columns but the first are aligned to the right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
