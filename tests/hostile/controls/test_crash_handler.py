"""A host's crash handler runs as root on data of a crashed program; no sandbox may start it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import eventually
from tests.hostile.controls.table import ulimit
from tests.hostile.sandbox import Bench

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
CRASH = """
import os, resource
print(resource.getrlimit(resource.RLIMIT_CORE), flush=True)
for limits in ((0, 0), (0, 1)):
    try:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
    except ValueError as error:  # what Python makes of EPERM
        print(type(error).__name__, flush=True)
os.kill(os.getpid(), 11)
"""


@pytest.fixture
def crashed(tmp_path: Path) -> Iterator[Path]:
    """A file with the uid of each program that the host's crash handler was started for."""
    if os.geteuid() != 0:
        pytest.skip("only root can set the host's crash handler")
    before = CORE_PATTERN.read_text()
    handler, uids = tmp_path / "handler", tmp_path / "uids"
    handler.write_text(f"#!/bin/sh\necho $1 >> {uids}\n")
    handler.chmod(0o755)
    uids.touch()
    CORE_PATTERN.write_text(f"|{handler} %u")
    try:
        yield uids
    finally:
        CORE_PATTERN.write_text(before)


@pytest.mark.alone
def test_no_crash_in_a_sandbox_starts_the_hosts_handler(bench: Bench, crashed: Path) -> None:
    with bench.sandbox() as sandbox:
        ran = sandbox.run(CRASH)
        assert (ran.exit["signal"], ran.stdout) == (11, "(1, 1)\nValueError\nValueError\n")
        assert sandbox.refusals == []
    with bench.sandbox(edit=ulimit("core", 0)) as weakened:  # the control: what others use to forbid core files
        uid = weakened.lease.host_dir.uid
        assert weakened.run(CRASH).exit["signal"] == 11
        assert weakened.refusals != []
    eventually(lambda: crashed.read_text().split(), "the control starts the handler")
    assert crashed.read_text().split() == [str(uid)]
