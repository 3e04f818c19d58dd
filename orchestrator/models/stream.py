"""The entries of an execution's stream: state changes, output and security events, in the order they happened."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One entry; ``id`` is Redis's and orders them. ``span``: its data lies outside of Redis, at offset and length."""

    id: str
    type: str
    data: bytes
    attempt: int
    source: str = ""  # the writer of a security event
    span: tuple[int, int] | None = None
