"""The right tool is near the top, for questions in the words of a task."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.models.tools import Tool
from orchestrator.tools.index import ranking
from orchestrator.tools.index.ranking import Ranking, words
from tests.bench.tokens.catalogues import catalogues
from tests.bench.tokens.questions import QUESTIONS

PUBLIC = [tool for catalogue in catalogues() for tool in catalogue.tools]


def tool(name: str, description: str = "", *parameters: str) -> Tool:
    return Tool(
        server="s", name=name, description=description, input_schema={"properties": {p: {} for p in parameters}}
    )


def names(found: list[Tool]) -> list[str]:
    return [one.name for one in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("listOpenIssues", ["list", "open", "issu"]),
        ("get_HTTP_response", ["get", "http", "respons"]),
        ("the issue, an ISSUE and issues", ["issu"] * 3),
        ("queries query querying", ["query"] * 3),
        ("deleted deletes delete deleting", ["delet"] * 4),
        ("class address process", ["class", "address", "process"]),
        ("keys sets", ["key", "set"]),
        ("größe 日本", ["gr", "öß", "日本"]),
    ],
)
def test_text_is_split_into_words(text: str, expected: list[str]) -> None:
    assert [word for word in words(text) if word != "e"] == expected


def test_a_word_in_a_name_counts_more_than_elsewhere() -> None:
    tools = [tool("other", "Rotates an image"), tool("rotate", "Turns"), tool("third", "x", "rotate")]
    assert names(Ranking(tools).ranked("rotate")) == ["rotate", "other", "third"]


def test_a_word_of_the_same_meaning_finds_less_well() -> None:
    tools = [tool("remove_label"), tool("delete_label"), tool("label")]
    assert names(Ranking(tools).ranked("delete label"))[0] == "delete_label"
    assert "remove_label" in names(Ranking(tools).ranked("delete"))


def test_ties_are_in_the_order_of_names() -> None:
    tools = [tool(name, "same words") for name in ("c", "a", "b")]
    assert names(Ranking(tools).ranked("words")) == ["a", "b", "c"]


@pytest.mark.parametrize("query", ["", "the of and", "zzqq", "?!"])
def test_query_without_match_ranks_no_tool(query: str) -> None:
    assert Ranking(PUBLIC).ranked(query) == []
    assert Ranking([]).ranked(query) == []


@given(st.text(max_size=80))
def test_any_query_is_answered(query: str) -> None:
    found = RANKING.ranked(query)
    assert len(found) == len({one.full_name for one in found})


RANKING = Ranking(PUBLIC)


def test_a_long_query_is_read_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(ranking, "words", lambda text: seen.append(len(text)) or iter(()))  # type: ignore[func-returns-value]
    RANKING.ranked("issue " * 1_000_000)
    assert seen == [500]


def places(questions: Any = QUESTIONS) -> list[int]:
    """The place of the meant tool among 358, from 0; 358 where it is not found."""
    found = []
    for question, meant in questions:
        ranked = [one.full_name for one in RANKING.ranked(question)]
        found.append(ranked.index(meant) if meant in ranked else len(PUBLIC))
    return found


def test_the_meant_tool_is_near_the_top() -> None:
    found = places()
    assert len(found) == 70
    assert sum(place == 0 for place in found) >= 44
    assert sum(place < 5 for place in found) >= 66
    assert sum(place < 10 for place in found) >= 67


def test_without_weights_for_names_fewer_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "NAME", 0.1)
    flat = Ranking(PUBLIC)
    first = [flat.ranked(question)[:1] for question, _ in QUESTIONS]
    hits = sum(bool(found) and found[0].full_name == meant for found, (_, meant) in zip(first, QUESTIONS, strict=True))
    assert hits < 44
