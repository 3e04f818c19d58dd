"""A loopback: the environments that allow it, and the count of attempts to leave."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.environments import Environments, load_environments
from orchestrator.errors import ValidationFailed
from orchestrator.models import Execution, Specification
from orchestrator.models.submission import Submission
from orchestrator.policy.submission import specify
from tests.harness import ROOT
from worker.agent import requests as agent_requests
from worker.agent.frames import HEADER
from worker.host.unrouted import Unrouted, no_routes

PYTHON = load_environments([ROOT / "sandbox_image" / "environments"])["python"]
SNMP = "Ip: Forwarding OutNoRoutes InDelivers\nIp: 1 7 3\nTcp: OutNoRoutes\nTcp: 100\n"
SNMP6 = "Ip6InReceives                   \t5\nIp6OutNoRoutes                  \t4\n"


def specified(declared: str, asked: bool) -> Specification:
    environment = PYTHON.model_copy(update={"loopback": declared})
    return specify(
        Submission(environment="python", code="1", loopback=asked),
        Environments([environment]),
        id="i",
        tenant="t",
        created_at=datetime.now(UTC),
        max_input_bytes=1000,
    )


@pytest.mark.parametrize(
    ("declared", "asked", "given"),
    [("allowed", True, True), ("allowed", False, False), ("always", False, True), ("never", False, False)],
)
def test_requested_and_allowed_loopback_is_granted(declared: str, asked: bool, given: bool) -> None:
    specification = specified(declared, asked)
    assert specification.loopback is given
    assert Execution.queued(specification).loopback is given


def test_loopback_outside_the_environment_has_its_own_error_code() -> None:
    with pytest.raises(ValidationFailed, match="python") as refused:
        specified("never", True)
    assert refused.value.code == "loopback_unavailable"
    assert refused.value.errors[0][0] == "loopback"


@pytest.mark.parametrize(
    ("loopback", "prepared", "sent"), [(False, True, False), (False, False, True), (True, True, True)]
)
def test_filters_are_sent_unless_the_agent_has_the_same(loopback: bool, prepared: bool, sent: bool) -> None:
    specification = specified("allowed", loopback)
    sent_bytes = agent_requests.start(specification, PYTHON, 1.0, 0, 0, {}, True, prepared)
    _, length = HEADER.unpack_from(sent_bytes)
    order = json.loads(sent_bytes[HEADER.size : HEADER.size + length])
    assert [name in order for name in ("answers", "denial_log")] == [sent, sent]


@pytest.mark.parametrize(("table", "count"), [(SNMP, 7), (SNMP6, 4), ("", 0), ("Ip: OutNoRoutes\n", 0)])
def test_the_kernels_tables_are_read(table: str, count: int) -> None:
    assert no_routes(table) == count


def test_a_live_processes_counters_are_read_and_kept() -> None:
    place = Unrouted.open(os.getpid(), "")
    assert place is not None
    before = place.count()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as made:
        try:
            made.connect(("2001:db8::1", 9))
            routed = True  # this host has a way to everywhere
        except OSError:
            routed = False
    assert place.count() >= before + (not routed)
    place.close()
    place.close()


@pytest.mark.parametrize(
    ("pid", "cgroup"), [(2**22 + 1, ""), (os.getpid(), "no-such-container")], ids=["gone", "other"]
)
def test_another_process_is_not_believed(pid: Any, cgroup: str) -> None:
    assert Unrouted.open(pid, cgroup) is None
