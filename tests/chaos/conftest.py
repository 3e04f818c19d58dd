"""Fixtures: installations whose parts are killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    """Makes installations; settings are keyword arguments."""
    made: list[Installation] = []

    def make(**settings: Any) -> Installation:
        directory = tmp_path / f"installation-{len(made)}"
        directory.mkdir()
        made.append(Installation(directory, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()
