"""Fixtures: an installation with executions, and a directory for its backups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.backups.installations import Backups, Source, redis_in, source_in
from tests.harness import RedisServer


@pytest.fixture
def backups(tmp_path: Path) -> Backups:
    return Backups(tmp_path, str(tmp_path / "backups"))


@pytest.fixture
def source(tmp_path: Path, backups: Backups) -> Iterator[Source]:
    with source_in(tmp_path, backups) as made:
        yield made


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis to restore into."""
    with redis_in(tmp_path / "fresh") as server:
        yield server
