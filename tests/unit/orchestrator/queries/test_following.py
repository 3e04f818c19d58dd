"""How much of a stream is kept while its reader takes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.models.stream import Entry
from orchestrator.queries.following import KEPT_BYTES, few

THIRD = KEPT_BYTES // 3


def inside(size: int) -> Entry:
    return Entry("1-1", "stdout", b"x" * size, 1)


def outside(size: int) -> Entry:
    return Entry("1-1", "stdout", b"", 1, span=(7, size))


@pytest.mark.parametrize("made", [inside, outside])
def test_a_page_is_bounded_and_never_empty(made: Callable[[int], Entry]) -> None:
    assert few([]) == []
    for sizes, count in (([1], 1), ([THIRD] * 3, 3), ([THIRD] * 9, 3), ([2 * KEPT_BYTES] * 2, 1), ([1, KEPT_BYTES], 1)):
        entries = [made(size) for size in sizes]
        assert few(entries) == entries[:count]
