"""Short checks stay in the event loop, long ones leave it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.broker.weights import QUICK, QUICK_CHARACTERS, Weights, values_in
from orchestrator.models.tools import Schema

SMALL: Schema = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (None, 1),
        ({"a": [1, {"b": "c"}]}, 5),
        ("x" * QUICK_CHARACTERS, 1),
        (["x" * QUICK_CHARACTERS, "y", "z"], QUICK + 1),
        ([0] * QUICK, QUICK + 1),
        ([[0] * 100] * 100, QUICK + 1),
    ],
)
def test_values_are_counted_up_to_the_bound(value: Any, count: int) -> None:
    assert values_in(value) == count


def test_schema_and_value_weigh_together() -> None:
    weights = Weights()
    assert weights.is_quick(SMALL, 100)
    assert not weights.is_quick(SMALL, QUICK)
    assert not weights.is_quick({"properties": {str(n): {"type": "integer"} for n in range(QUICK)}}, 1)
    assert not weights.is_quick({"$ref": "#"}, 1)
    assert weights.is_quick(SMALL, 100), "a remembered schema weighs the same"
