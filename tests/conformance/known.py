"""The known failures in a sandbox with their reasons: ``known_failures.toml``, and the page for users.

The list has tables by environment. Each table has a reason, the ids of tests and the tiers in which they fail (both,
if ``tiers`` is absent). ``sometimes`` marks tests that fail in some runs only, because of their timing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.conformance.selection import GROUPS, TIERS, Group

HERE = Path(__file__).resolve().parent
EXAMPLES = 3


@dataclass(frozen=True)
class Known:
    """Tests of one environment that fail for one reason."""

    environment: str
    reason: str
    tiers: tuple[str, ...]
    sometimes: bool
    tests: tuple[str, ...]


@cache
def load() -> tuple[Known, ...]:
    """The whole list. Raises ``ValueError`` for a test of no group, or a test that is listed twice for a tier."""
    declared = tomllib.loads((HERE / "known_failures.toml").read_text())
    known = tuple(
        Known(
            environment, one["reason"], tuple(one.get("tiers", TIERS)), one.get("sometimes", False), tuple(one["tests"])
        )
        for environment, tables in declared.items()
        for one in tables
    )
    seen = set()
    for one in known:
        for key in ((one.environment, tier, test) for tier in one.tiers for test in one.tests):
            if key in seen or not any(group.environment == key[0] and group.holds(key[2]) for group in GROUPS.values()):
                raise ValueError(f"{key} is listed twice, or belongs to no group")
            seen.add(key)
    return known


def differences(group: Group, tier: str, failed: Collection[str]) -> tuple[list[str], list[str]]:
    """The unexpected failures, and the known failures that passed."""
    holding = [one for one in load() if one.environment == group.environment and tier in one.tiers]
    known = {test for one in holding for test in one.tests if group.holds(test)}
    sometimes = {test for one in holding if one.sometimes for test in one.tests}
    return sorted(set(failed) - known), sorted(known - sometimes - set(failed))


def page() -> str:
    """``docs/compatibility.md``."""
    lines = [(HERE / "compatibility.md").read_text().rstrip(), ""]
    for environment in dict.fromkeys(group.environment for group in GROUPS.values()):
        lines += ["", f"## {environment}", "", "| tests | pass | with `make test-all` | with `make conformance` |"]
        lines += ["|---|---|---|---|"]
        for group in (group for group in GROUPS.values() if group.environment == environment):
            what = " ".join(group.what) or "`tests/conformance/programs/node`"
            seldom = ", ".join(tier for tier in TIERS if tier not in (*group.always, *group.never))
            lines.append(f"| {what} | at least {group.least_passed} | {', '.join(group.always)} | {seldom} |")
        known = [one for one in load() if one.environment == environment]
        if not known:
            lines += ["", "No known failures."]
            continue
        lines += ["", "| reason of the failure | tier | tests |", "|---|---|---|"]
        for one in known:
            tests = "; ".join(f"`{test}`" for test in one.tests[:EXAMPLES])
            more = f"; … {len(one.tests)} in all" if len(one.tests) > EXAMPLES else ""
            lines.append(f"| {one.reason} | {' and '.join(one.tiers)}{', sometimes' * one.sometimes} | {tests}{more} |")
    return "\n".join(lines) + "\n"
