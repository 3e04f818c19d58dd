"""Calls that are entries of the audit log, by the setting and the tool's hints."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.broker.auditing import is_audited
from orchestrator.models.tools import Hints, Tool

HARMLESS = Hints(read_only=True, destructive=False)


@pytest.mark.parametrize(
    ("audited", "hints", "expected"),
    [
        ("destructive", Hints(), True),
        ("destructive", Hints(destructive=True, read_only=True), False),
        ("destructive", HARMLESS, False),
        ("all", HARMLESS, True),
        ("refused", Hints(), False),
    ],
)
def test_setting_and_hints_decide_on_the_entry(audited: Any, hints: Hints, expected: bool) -> None:
    assert is_audited(audited, Tool(server="s", name="t", input_schema={}, hints=hints)) is expected
