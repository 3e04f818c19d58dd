"""Pauses before restarts: doubled with each end in a row, up to a bound, and a bound on ends in a row."""

from __future__ import annotations

from typing import NamedTuple


class Patience(NamedTuple):
    """The bounds of restarts. A process that ran for ``stable_seconds`` starts a new row."""

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    most_in_a_row: int = 12
    stable_seconds: float = 60.0


USUAL = Patience()


class Row:
    """The ends in a row of one process."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._ends = 0

    def pause(self, lived_seconds: float) -> float | None:
        """The seconds until the restart of a process that ended after ``lived_seconds``; ``None`` to give up."""
        if lived_seconds >= self._patience.stable_seconds:
            self._ends = 0
        self._ends += 1
        if self._ends > self._patience.most_in_a_row:
            return None
        return min(self._patience.first_seconds * 2.0 ** (self._ends - 1), self._patience.longest_seconds)
