"""The published counts of tokens are the ones that ``make bench-tokens`` finds, and say what docs/tokens.md claims."""

from __future__ import annotations

import pytest

from tests.bench.publishing import marked, published
from tests.bench.tokens.__main__ import DOCUMENT
from tests.bench.tokens.catalogues import listed
from tests.bench.tokens.distribution import Distribution, table
from tests.bench.tokens.static import Static


@pytest.fixture(scope="module")
def static() -> Static:
    return Static()


def test_the_document_has_the_current_figures(static: Static) -> None:
    assert marked("catalogues", static.text()) in DOCUMENT.read_text()


def test_catalogues_are_those_that_were_listed() -> None:
    assert len(listed()) == 20
    assert sum(len(server.tools) for server in listed()) == 358
    assert all(server.version and server.integrity and server.license for server in listed())


@pytest.mark.parametrize(("size", "share"), [(1, 0.02), (3, 0.03)])
def test_search_costs_a_small_share_of_direct_catalogues(static: Static, size: int, share: float) -> None:
    tasks = static.tasks(size)
    assert Distribution.of([task.ours_with_all for task in tasks]).median <= share * static.direct
    assert Distribution.of([task.ours for task in tasks]).median < Distribution.of([t.searched for t in tasks]).median


def test_six_searches_cost_at_most_3_percent_of_direct_catalogues(static: Static) -> None:
    assert Distribution.of([task.ours for task in static.tasks(6)]).median <= 0.03 * static.direct
    assert static.found_at_once() >= 68


def test_distribution_has_values_that_occur() -> None:
    assert Distribution.of([4, 1, 3, 2]) == (4, 1, 1, 2, 3, 4, 4)
    assert Distribution.of([7]) == (1, 7, 7, 7, 7, 7, 7)
    assert Distribution.of(range(1, 101)) == (100, 1, 25, 50, 75, 90, 100)
    assert Distribution.of([1000, 2]).cells() == ["2", "2", "2", "1,000", "1,000", "1,000"]


def test_rows_become_a_markdown_table() -> None:
    assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | ---: |\n| x | 1 |\n"


def test_sections_are_replaced_between_their_marks() -> None:
    before = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb"
    assert published(before, {"x": "new\n"}) == "a\n<!-- begin x -->\nnew\n<!-- end x -->\nb"
    with pytest.raises(ValueError, match="0 places for 'y'"):
        published(before, {"y": "new"})
