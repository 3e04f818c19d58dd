"""A program flushes no disk of the host, which the disk itself counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.controls.table import allowing
from tests.hostile.sandbox import Bench, Sandbox

TIMES = 900  # many times what others on this machine flush meanwhile
FLUSH = f"""
import os
for path in ("/", "/etc/hostname", "/usr/bin/env"):
    file = os.open(path, os.O_RDONLY)
    for _ in range({TIMES // 3}): os.fsync(file)
"""


@pytest.fixture
def flushes(bench: Bench) -> Callable[[], int]:
    """How often the disk that the engine's directory lies on was flushed."""
    driver: Any = bench.driver
    device = os.stat(driver.engine.api().info()["DockerRootDir"]).st_dev
    disk = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    cache = disk / "queue" / "write_cache"
    if not cache.exists() or cache.read_text().strip() != "write back":
        pytest.skip("the disk has no cache of its own that could be flushed")
    return lambda: int((disk / "stat").read_text().split()[15])


def flushed(sandbox: Sandbox, flushes: Callable[[], int]) -> int:
    before = flushes()
    assert sandbox.run(FLUSH).exit["exit_code"] == 0
    return flushes() - before


@pytest.mark.alone
def test_a_program_flushes_no_disk(bench: Bench, flushes: Callable[[], int]) -> None:
    with bench.sandbox() as sandbox:
        assert flushed(sandbox, flushes) < TIMES / 10
    with bench.sandbox(edit=allowing("fsync")) as sandbox:  # the control: the root, whose upper layer lies on the disk
        assert flushed(sandbox, flushes) > TIMES / 4
