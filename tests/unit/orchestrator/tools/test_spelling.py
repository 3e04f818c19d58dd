"""Suggestions: the closest names first, found with bounded work, whatever the names are."""

from __future__ import annotations

import random
from difflib import SequenceMatcher, get_close_matches
from typing import Any

import pytest

from orchestrator.tools import spelling
from orchestrator.tools.spelling import MOST_CHARACTERS, MOST_COMPARED, MOST_MATCHED, similar
from tests.bench.tokens.catalogues import catalogues


def test_misspelt_names_of_public_tools_are_found_as_difflib_finds_them() -> None:
    names = [tool.full_name for catalogue in catalogues() for tool in catalogue.tools]
    draw = random.Random(1)
    for name in draw.sample(names, 60):
        place = draw.randrange(len(name))
        misspelt = name[:place] + draw.choice("aeiourst") + name[place + 1 :]
        expected = get_close_matches(
            misspelt.lower().replace("-", "_"), [n.lower().replace("-", "_") for n in names], 1
        )
        assert [found.lower().replace("-", "_") for found in similar(misspelt, names)[:1]] == expected


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("test.ad", ["test.add", "other.list"], ("test.add",)),
        ("bb", ["b", "c"], ("b",)),
        ("list-Issues", ["list_issues", "list_pulls"], ("list_issues", "list_pulls")),
        ("repo", ["repository", "owner"], ("repository",)),
        ("nothing", ["like", "these"], ()),
        ("", ["a"], ()),
    ],
)
def test_close_and_longer_names_are_suggested(name: str, known: list[str], expected: tuple[str, ...]) -> None:
    assert similar(name, known) == expected


def test_hostile_names_cost_bounded_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of the same few characters, for which a comparison takes longest."""
    draw = random.Random(2)
    names = ["".join(draw.choice("ab") for _ in range(2 * MOST_CHARACTERS)) for _ in range(2 * MOST_COMPARED)]
    lengths, compared = set[int](), 0

    class Counting(SequenceMatcher[str]):
        def set_seq1(self, a: Any) -> None:
            lengths.add(len(a))
            super().set_seq1(a)

        def ratio(self) -> float:
            nonlocal compared
            compared += 1
            return super().ratio()

    monkeypatch.setattr(spelling, "SequenceMatcher", Counting)
    consumed = 0

    def counted() -> Any:
        nonlocal consumed
        for name in names:
            consumed += 1
            yield name

    similar("ab" * 200, counted())
    assert consumed <= MOST_COMPARED + 1
    assert 0 < compared <= MOST_MATCHED
    assert max(lengths) <= MOST_CHARACTERS
