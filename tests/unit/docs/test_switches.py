"""The page of feature switches lists each feature, and each part that can be switched off has one."""

from __future__ import annotations

import re

from orchestrator.models.fleet import ENVIRONMENT, ISOLATION, PLAIN
from tests.harness import ROOT

PAGE = (ROOT / "docs" / "operations" / "switches.md").read_text(encoding="utf-8")
# Parts that an operator must be able to stop at once, by their folders, and what the page calls those that are absent.
PARTS = {"mcp": "mcp", "broker": "tools", "webhooks": "webhooks", "compat": "dialects"}


def test_page_lists_every_feature() -> None:
    rows = set(re.findall(r"`([a-z:-]+)(?:NAME)?`", " ".join(re.findall(r"^\| (`.+?) \|", PAGE, re.MULTILINE))))
    assert {row for row in rows if not row.startswith(ISOLATION)} == {*PLAIN, ENVIRONMENT}


def test_each_part_has_a_switch_or_is_named_as_absent() -> None:
    there = {name for folder, name in PARTS.items() if (ROOT / "orchestrator" / folder).is_dir()}
    assert there <= {*PLAIN}
    absent = [name for name in PARTS.values() if name not in there]
    assert all(name in PAGE.lower() for name in absent)
    assert {name for name in absent if name in PLAIN} == set(), "a switch of nothing"
