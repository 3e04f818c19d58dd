"""What a check of a host found."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["ok", "weak", "broken"]


class Finding(NamedTuple):
    """One result: ``weak`` is worth mending and breaks no promise, ``broken`` says which promise cannot be kept.

    ``promise`` is a number of SPECIFICATION.md, ``remedy`` a command or a setting; both are empty for ``ok``.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
    promise: int | None = None


def ok(name: str, detail: str) -> Finding:
    """Nothing to mend."""
    return Finding(name, "ok", detail)


def weak(name: str, detail: str, remedy: str) -> Finding:
    """A second line that is missing, or something that could not be told."""
    return Finding(name, "weak", detail, remedy)


def broken(name: str, promise: int, detail: str, remedy: str) -> Finding:
    """A promise that this host cannot keep."""
    return Finding(name, "broken", detail, remedy, promise)
