"""Fixtures: installations whose parts are killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.installations.installation import Installation


@pytest.fixture
def installation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    """Makes installations; settings are keyword arguments."""
    numbers = count()

    def make(driver: str = "none", **settings: Any) -> Installation:
        if driver != "none":
            request.getfixturevalue("images")
            request.getfixturevalue("need_runtime")("crun" if driver == "oci" else "runc", driver)
        directory = tmp_path / f"installation-{next(numbers)}"
        directory.mkdir()
        made = Installation(directory, driver, **settings)
        ends.callback(made.stop)
        return made

    with ExitStack() as ends:
        yield make
