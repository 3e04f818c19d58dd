"""Weaknesses for negative controls: what a worker lacks, or what is done to it in its own process."""

from __future__ import annotations

from typing import Any

from orchestrator.store import scripts
from worker.agent.conversation import Conversation
from worker.attempt.session import Session
from worker.drivers.oci import removal
from worker.drivers.oci import sandbox as oci_sandbox
from worker.upkeep.heartbeat import Heartbeat, WorkerLease

FENCE = "(attempt ~= found[2] or found[1] == 'queued')"


def without_fence() -> None:
    """Let a worker's steps count whichever attempt they are of."""
    assert FENCE in scripts.STEP
    scripts.STEP = scripts.STEP.replace(FENCE, "false")


def without_watch() -> None:
    """Let a worker never notice that its lease is lost."""
    weak: Any = Heartbeat
    lease: Any = WorkerLease
    assert callable(weak._watch) and callable(weak._lose) and callable(lease.is_held)
    weak._watch = weak._lose = lambda self: None
    lease.is_held = lambda self: True


def without_excuse() -> None:
    """Let whatever a sandbox ended like be its program's doing."""
    weak: Any = Conversation
    assert callable(weak._spared)
    weak._spared = lambda self, exit_code, diagnostics: False


def without_removal() -> None:
    """Disable the worker's clean-up in place of a killed runtime."""
    weak, sandbox = vars(removal), vars(oci_sandbox)
    assert weak["delete"] is sandbox["delete"]
    weak["delete"] = sandbox["delete"] = lambda settings, bundle: None


def with_agents_killed() -> None:
    """Kill the first agent that has sent EXIT, before it can exit."""
    release, left = Session.release, [1]

    def killing(self: Session) -> None:
        if left and left.pop():
            self.kill()
        release(self)

    Session.release = killing  # type: ignore[method-assign]


WEAKER = {
    "no fence": without_fence,
    "no watch": without_watch,
    "no excuse": without_excuse,
    "no removal": without_removal,
    "agents killed": with_agents_killed,
}
