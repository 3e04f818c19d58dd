"""Whose fault it is that an agent ended before it said so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import RuntimeUnavailable
from worker.account import AGENT_FAILED, AGENT_UNFILTERED
from worker.drivers.base import Ended
from worker.runner import Runner


def excused(isolation: str, exit_code: int, diagnostics: bytes) -> bool:
    """Whether the end is taken for the platform's fault, so that another attempt runs the program."""
    runner: Any = SimpleNamespace(_driver=SimpleNamespace(version=lambda: "1"))
    lease: Any = SimpleNamespace(isolation=isolation, sandbox=SimpleNamespace(diagnostics=diagnostics))
    session: Any = SimpleNamespace(counters=SimpleNamespace(oom_events=0))
    try:
        Runner._excuse(runner, lease, session, Ended(exit_code=exit_code, oom_killed=False))
    except RuntimeUnavailable:
        return True
    return False


@pytest.mark.parametrize(
    ("isolation", "exit_code", "diagnostics", "platform"),
    [
        # A kernel that does not take the agent's filters is no program's doing; none has run.
        ("standard", AGENT_UNFILTERED, b"agent: Unfiltered('the kernel does not take a seccomp filter')", True),
        ("standard", AGENT_FAILED, b"agent: OSError(28, 'No space left on device')", False),
        ("standard", AGENT_FAILED, b"", True),
        ("hardened", AGENT_UNFILTERED, b"whatever a program that has stopped the agent lets it say", False),
    ],
)
def test_an_agent_that_ended_early(isolation: str, exit_code: int, diagnostics: bytes, platform: bool) -> None:
    assert excused(isolation, exit_code, diagnostics) == platform
