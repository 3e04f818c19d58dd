"""Fixtures: installations whose parts are killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.installations.installation import Installation


@pytest.fixture
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    """Makes installations; settings are keyword arguments."""
    made: list[Installation] = []

    def make(driver: str = "none", **settings: Any) -> Installation:
        if driver != "none":
            request.getfixturevalue("images")
            request.getfixturevalue("need_runtime")("crun" if driver == "oci" else "runc", driver)
        directory = tmp_path / f"installation-{len(made)}"
        directory.mkdir()
        made.append(Installation(directory, driver, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()
