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
# Tests that depend on version 2: requested caps, counters and the ends they show, kills of a whole cgroup.
CHOSEN = (
    "weaker_container and (memory or cpu or pids or cgroup)",
    *("cgroup_stays", "killed_sandbox", "killed_runtime", "runtime_killed", "reapers", "tidies_up"),
    *("expected_reason", "limits_hold", "cpu_seconds_come"),
    "starves_pid_1 and two",  # with a tenth of a core, an emulated machine hardly starts processes
)
SCRIPT = f"""
test "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs && ! grep -q ' cgroup ' /proc/mounts || exit 90
python3 -m pytest -v --color=no -m "" --timeout {SECONDS} \\
  tests/integration/worker/drivers/test_oci.py tests/e2e/sandbox/test_tiers.py tests/e2e/sandbox/test_kills.py \\
  -k 'oci and crun and not runsc and not docker and ({" or ".join(CHOSEN)})'
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
    assert (printed.count("PASSED "), printed.count("SKIPPED ")) == (15, 0)


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
        assert (row["reason"], row["denials"] >= MAX_DENIALS) == ("security_violation", True), row
    del found["on, auditd stopped, no wait"]  # the kernel drops what the flood adds to a full backlog until the kill
    # A process whose wait for room ends before the kill loses one record.
    assert found.pop("on, auditd stopped")["lost"] < 10
    assert {name: row["lost"] for name, row in found.items()} == dict.fromkeys(found, 0)
