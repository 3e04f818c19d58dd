"""The finding of a check of a host."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["ok", "weak", "broken"]


class Finding(NamedTuple):
    """One result: ``weak`` is worth fixing and breaks no promise, ``broken`` names the broken promise.

    ``promise`` is a number of SPECIFICATION.md, ``remedy`` a command or a setting; both are empty for ``ok``.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
    promise: int | None = None


def ok(name: str, detail: str) -> Finding:
    """A finding without a fault."""
    return Finding(name, "ok", detail)


def weak(name: str, detail: str, remedy: str) -> Finding:
    """A missing second line of defence, or an impossible check."""
    return Finding(name, "weak", detail, remedy)


def broken(name: str, promise: int, detail: str, remedy: str) -> Finding:
    """A promise that this host cannot keep."""
    return Finding(name, "broken", detail, remedy, promise)
