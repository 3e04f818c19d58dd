"""Fixtures: built images of tool servers, and a launcher of sandboxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.broker.sandboxes import SandboxLauncher
from tests.builders.tools.tool_sandboxes import built, launcher_in


@pytest.fixture(scope="session")
def tool_images() -> Path:
    """The directory of images with ``time``, whose server is Python's. Images are built once for each content."""
    return built("time")


@pytest.fixture(scope="session")
def node_images(tool_images: Path) -> Path:
    """The same with ``filesystem``, whose server is JavaScript."""
    return built("filesystem")


@pytest.fixture
def launcher(tool_images: Path, tmp_path: Path) -> Iterator[SandboxLauncher]:
    """A launcher whose bundles are this test's; none may be left."""
    made = launcher_in(tmp_path, tool_images)
    yield made
    assert not made.bundles.exists() or list(made.bundles.iterdir()) == []
