"""The choice of the programs that run with every pair of driver and runtime, or in ``make hostile`` alone."""

from __future__ import annotations

import pytest

from tests.hostile.cases import CASES, SAMPLE_OF_EACH_THEME, THEMES

# Each of these drivers and runtimes runs every program in another pair.
SAMPLED_PAIRS = ("docker-crun", "oci-runc")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sample = {name for names in THEMES.values() for name in names[:SAMPLE_OF_EACH_THEME]}
    for item in items:
        chosen = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if chosen.get("wall") in SAMPLED_PAIRS and chosen.get("name") in CASES.keys() - sample:
            item.add_marker(pytest.mark.complete)
