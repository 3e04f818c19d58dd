"""One bench for all controls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.sandbox import Bench


@pytest.fixture(scope="module")
def bench(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Makes sandboxes; at the end nothing of them is left."""
    made = Bench(tmp_path_factory.mktemp("bench"), images)
    yield made
    made.close()
