"""Driver ``oci`` on a host that has cgroup version 2 alone: in a virtual machine, since one host has one kind only."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cgroup_v2.machine import make_disk, run

SECONDS = 5400.0
# Not: what needs an engine or gVisor, and two that skip in the standard tier.
LEFT_OUT = (
    *("docker", "runsc", "test_no_tier_is_taken_for_another", "test_a_tier_is_given_by_those_who_have_it"),
    *("test_one_that_says_it_ended_and_goes_on_is_killed", "test_nothing_outside_can_be_reached"),
    "test_the_doctor_tells_of_a_tier_that_is_there",
)
SCRIPT = f"""
test "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs && ! grep -q ' cgroup ' /proc/mounts || exit 90
python3 -m pytest -v --color=no --timeout {SECONDS} \\
  tests/integration/worker/drivers/test_oci.py tests/e2e/sandbox/test_tiers.py \\
  -k '{" and ".join(f"not {name}" for name in LEFT_OUT)}'
"""


@pytest.fixture
def where() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mayfly-cgroup-v2-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    yield path
    shutil.rmtree(path)


@pytest.mark.complete
@pytest.mark.timeout(SECONDS)
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("qemu-system-x86_64"),
    reason="needs root and qemu-system-x86",
)
def test_what_holds_for_driver_oci_holds_on_cgroup_version_2_alone(images: Path, where: Path) -> None:
    make_disk(where, images)
    code, printed = run(where, SCRIPT, SECONDS)
    assert code == 0, printed
    assert (printed.count("PASSED ") > 60, printed.count("SKIPPED ")) == (True, 0)
