"""Servers on forbidden addresses are not reached, and are where their rule is left out; in a network namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.harness import ROOT

ISOLATED = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
PUBLIC = ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946")
FORBIDDEN = (
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "0.7.7.7", "10.1.2.3", "172.16.9.9", "192.168.1.1", "100.64.3.3"),
    *("169.254.169.254", "168.63.129.16", "192.0.0.192", "192.0.2.7", "198.18.0.9", "198.51.100.9", "203.0.113.9"),
    *("192.88.99.1", "240.0.0.9"),
    *("::1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    *("64:ff9b:1::a01:203", "2002:7f00:1::1", "2001:0:4136:e378::1", "2001:db8::7", "fd00:ec2::254", "fc00::9"),
    *("fec0::9", "100::9"),
)
Attempts = dict[str, list[tuple[str, bool]]]


@pytest.fixture(scope="module")
def attempts() -> Attempts:
    command = [*ISOLATED, sys.executable, "-m", "tests.builders.sandboxes.canaries", *PUBLIC, *FORBIDDEN]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return {target: [(code, reached) for code, reached in found] for target, found in json.loads(done.stdout).items()}


@pytest.mark.parametrize("target", FORBIDDEN)
def test_forbidden_address_is_not_reached(attempts: Attempts, target: str) -> None:
    with_all_rules, weakened, _ = attempts[target]
    assert with_all_rules == ("tool_denied", False)
    assert weakened == ("ok", True)


@pytest.mark.parametrize("target", PUBLIC)
def test_public_address_other_than_this_hosts_is_reached(attempts: Attempts, target: str) -> None:
    elsewhere, _, own = attempts[target]
    assert elsewhere == ("ok", True)
    assert own == ("tool_denied", False)
