"""Definitions of tools as servers list them: taken with cautious hints, or left out."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.broker.links.definitions import MOST_DESCRIPTION, tool
from orchestrator.models.tools import Hints

GOOD: dict[str, Any] = {"name": "read", "inputSchema": {"type": "object"}}


@pytest.mark.parametrize(
    ("annotations", "hints"),
    [
        (None, Hints(read_only=False, destructive=True, idempotent=False, open_world=True)),
        ({}, Hints()),
        ({"readOnlyHint": True, "destructiveHint": False}, Hints(read_only=True, destructive=False)),
        ({"idempotentHint": True, "openWorldHint": False}, Hints(idempotent=True, open_world=False)),
        ({"readOnlyHint": "yes", "idempotentHint": 1, "destructiveHint": 0}, Hints()),
    ],
)
def test_missing_or_odd_hint_is_the_cautious_value(annotations: object, hints: Hints) -> None:
    made = tool("s", {**GOOD, "annotations": annotations})
    assert made is not None
    assert made.hints == hints


@pytest.mark.parametrize(
    "changes",
    [
        {"name": None},
        {"name": "a b"},
        {"name": "x" * 129},
        {"inputSchema": None},
        {"inputSchema": [1]},
        {"inputSchema": {"description": "x" * 600_000}},
        {"outputSchema": 1},
    ],
)
def test_unusable_definition_is_left_out(changes: dict[str, Any]) -> None:
    assert tool("s", {**GOOD, **changes}) is None
    assert tool("s", GOOD) is not None


def test_texts_are_bounded_and_can_be_encoded() -> None:
    made = tool("s", {**GOOD, "description": "\ud800" + "x" * MOST_DESCRIPTION, "title": 5})
    assert made is not None
    assert (len(made.description), made.title) == (MOST_DESCRIPTION, "")
    assert made.description.encode()
