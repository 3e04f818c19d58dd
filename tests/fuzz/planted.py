"""A target with a fault, to show that the runner finds one: chance alone would take 2**32 inputs to meet it."""

from __future__ import annotations


def fuzz_planted(data: bytes) -> None:
    """Never fails but for four bytes in a row."""
    if data[:1] == b"M" and data[1:2] == b"A" and data[2:3] == b"Y" and data[3:4] == b"!":
        raise RuntimeError("the planted fault")


TARGETS = {"planted": fuzz_planted}
