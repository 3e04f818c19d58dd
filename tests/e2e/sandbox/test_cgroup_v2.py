"""Hosts of another kind than this one, in a virtual machine: cgroup version 2 alone, and an audit daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cgroup_v2.audit_flood import HOSTS
from tests.cgroup_v2.machine import make_disk, run
from worker.attempt.incidents import MAX_DENIALS

SECONDS = 5400.0
# Not: what needs an engine or gVisor, and two that skip in the standard tier.
LEFT_OUT = (
    *("docker", "runsc", "test_no_tier_is_taken_for_another", "test_tier_is_served_only_by_workers_with_its_runtime"),
    *("test_program_that_forges_its_end_and_goes_on_is_killed", "test_no_outside_address_can_be_reached"),
    "test_doctor_reports_available_tier",
)
SCRIPT = f"""
test "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs && ! grep -q ' cgroup ' /proc/mounts || exit 90
python3 -m pytest -v --color=no --timeout {SECONDS} \\
  tests/integration/worker/drivers/test_oci.py tests/e2e/sandbox/test_tiers.py \\
  -k '{" and ".join(f"not {name}" for name in LEFT_OUT)}'
"""
pytestmark = [
    pytest.mark.complete,
    pytest.mark.timeout(SECONDS),
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("qemu-system-x86_64"), reason="needs root and qemu-system-x86"
    ),
]


@pytest.fixture
def where() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mayfly-cgroup-v2-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    yield path
    shutil.rmtree(path)


def test_driver_oci_passes_its_tests_on_pure_cgroup_v2(images: Path, where: Path) -> None:
    make_disk(where, images)
    code, printed = run(where, SCRIPT, SECONDS)
    assert code == 0, printed
    assert (printed.count("PASSED ") > 60, printed.count("SKIPPED ")) == (True, 0)


def test_flood_of_denials_ends_on_an_audited_host(images: Path, where: Path) -> None:
    """Also while the daemon is stopped; the control: where the operator has records dropped, they are not counted."""
    make_disk(where, images, "auditd")
    code, printed = run(where, "mkdir -p /var/log/audit\npython3 -u -m tests.cgroup_v2.audit_flood", SECONDS)
    assert code == 0, printed
    rows = [json.loads(row) for row in re.findall(r'\{"host".*\}', printed)]
    found = {row.pop("host"): row for row in rows}
    assert found.keys() == HOSTS.keys()
    assert {row["neighbour"] for row in rows} == {"succeeded"}
    limited = found.pop("on, auditd, 20 records a second")
    assert (limited["reason"], limited["lost"] > 0, limited["denials"] < MAX_DENIALS) == ("timed_out", True, True)
    for row in found.values():
        assert (row["reason"], row["lost"], row["denials"] >= MAX_DENIALS) == ("security_violation", 0, True), row
