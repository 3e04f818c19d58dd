"""Positions in Redis streams, and the entries of an execution's stream: state changes, output and security events, in
the order in which they happened.

A position is a stream's id, such as ``1700000000000-0``: milliseconds since the epoch, and a number.
"""

from __future__ import annotations

from typing import NamedTuple

START = "0-0"


class Entry(NamedTuple):
    """One entry; ``id`` is Redis's, and orders entries. ``span``: offset and length of data outside of Redis."""

    id: str
    type: str
    data: bytes
    attempt: int
    source: str = ""  # the writer of a security event
    span: tuple[int, int] | None = None


def order(position: str) -> tuple[int, int]:
    """A position as numbers that compare as Redis compares them. Raises ``ValueError``."""
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number)


def just_before(seconds: float) -> str:
    """The position before all entries written at or after a time since the epoch."""
    milliseconds = int(seconds * 1000)
    return START if milliseconds <= 0 else f"{milliseconds - 1}-{2**64 - 1}"
