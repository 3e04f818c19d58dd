"""Fixtures: built images of tool servers, and a launcher of sandboxes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.broker.sandboxes import SandboxLauncher
from tests.builders.tools.tool_sandboxes import launcher_in
from tests.harness import IMAGES, ROOT
from tests.lanes import locked

EXAMPLES = ROOT / "deploy" / "examples" / "tool-servers"


@pytest.fixture(scope="session")
def tool_images() -> Path:
    """The directory of images with ``time``, whose server is Python's. Images are built once for each content."""
    return built("time")


@pytest.fixture(scope="session")
def node_images(tool_images: Path) -> Path:
    """The same with ``filesystem``, whose server is JavaScript."""
    return built("filesystem")


def built(name: str) -> Path:
    """The directory of images, after one of the examples was built."""
    command = [sys.executable, "-m", "sandbox_image.build", name, "--environments", str(EXAMPLES)]
    IMAGES.mkdir(parents=True, exist_ok=True)
    with locked(IMAGES / "tests.lock"):
        subprocess.run([*command, "--output", str(IMAGES)], cwd=ROOT, check=True, timeout=1200)
    return IMAGES


@pytest.fixture
def launcher(tool_images: Path, tmp_path: Path) -> Iterator[SandboxLauncher]:
    """A launcher whose bundles are this test's; none may be left."""
    made = launcher_in(tmp_path, tool_images)
    yield made
    assert not made.bundles.exists() or list(made.bundles.iterdir()) == []
