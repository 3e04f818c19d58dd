"""The decision whether the check of a value against a tool's schema runs in the event loop or in a thread."""

from __future__ import annotations

from typing import Any

from orchestrator.models.tools import Schema

QUICK = 5000  # values in a schema times values in the checked value
QUICK_CHARACTERS = 64 * 1024  # of a value's texts
MOST_REMEMBERED = 2000


class Weights:
    """The approximate number of values in each schema; cached for further calls."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Schema, int]] = {}

    def is_quick(self, schema: Schema, values: int) -> bool:
        """Whether a check of so many values takes some milliseconds; false for schemas with references."""
        return values * self._of(schema) <= QUICK

    def _of(self, schema: Schema) -> int:
        known = self._known.get(id(schema))
        if known is None or known[0] is not schema:
            text = str(schema)
            weight = QUICK + 1 if "$ref" in text else text.count(",") + text.count("{")
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            known = self._known[id(schema)] = schema, weight
        return known[1]


def values_in(value: Any) -> int:
    """The number of values in a JSON value; above :data:`QUICK` for any large value."""
    count, characters, left = 0, 0, [value]
    while left and count <= QUICK and characters <= QUICK_CHARACTERS:
        one = left.pop()
        count += 1
        if isinstance(one, str):
            characters += len(one)
        elif isinstance(one, list | dict):
            if count + len(one) > QUICK:
                return QUICK + 1
            left += one.values() if isinstance(one, dict) else one
    return QUICK + 1 if left or characters > QUICK_CHARACTERS else count
