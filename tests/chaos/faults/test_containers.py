"""Real containers whose agent or runtime is killed: the executions end correctly, and no container is left."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from orchestrator.store import keys
from tests.chaos.installations.containers import agents, launching
from tests.chaos.installations.installation import Client, Installation
from tests.chaos.invariants import Accepted
from tests.harness import eventually

LEASE_SECONDS = 30  # no worker is lost here: all attempts but the first are those of the kills
Kill = Callable[[Installation], list[psutil.Process]]


def _run(stack: Installation, kill: Kill, weaker: tuple[str, ...]) -> tuple[Accepted, list[str]]:
    """Run one execution during which ``kill`` kills a process; the violations that the checker finds."""
    crew = stack.begin(1, iter(()), weaker)
    with closing(Client(stack.env["MAYFLY_URL"], stack.key, seed=1)) as client:
        one = client.submit(100, pause_ms=50)
        assert one is not None
        eventually(lambda: stack.raw.hget(keys.execution(one.id), "state") == b"running", "the execution runs", 60)
        assert len(crew.pids()) == 1
        for process in kill(stack):
            with suppress(psutil.NoSuchProcess):  # of a container that was about to be removed
                process.kill()
        client.await_end(one)
        assert one.reported is not None
        return one, stack.check(client.accepted, 3 if weaker else 120)


def _agents(stack: Installation) -> list[psutil.Process]:
    found = agents(stack.first_uid)
    assert found
    return found


def _runtimes(stack: Installation) -> list[psutil.Process]:
    assert stack.crew is not None
    found = launching(stack.crew.pids())
    assert found
    return found


@pytest.mark.parametrize("weaker", [(), ("no excuse",)])
def test_execution_is_retried_after_its_agent_was_killed(
    weaker: tuple[str, ...], installation: Callable[..., Installation]
) -> None:
    one, found = _run(installation("oci", lease_seconds=LEASE_SECONDS), _agents, weaker)
    assert one.reported is not None
    if weaker:
        assert any("it has failed" in violation for violation in found), found
    else:
        assert found == []
        assert one.reported["attempt"] == 2


@pytest.mark.complete  # what the driver does then is tested with the driver
@pytest.mark.parametrize("weaker", [(), ("no removal",)])
def test_program_continues_after_its_runtime_was_killed(
    weaker: tuple[str, ...], installation: Callable[..., Installation]
) -> None:
    """The container must go even without its runtime, whose task the cleanup is."""
    one, found = _run(installation("oci", lease_seconds=LEASE_SECONDS), _runtimes, weaker)
    assert one.reported is not None
    assert (one.reported["state"], one.reported["attempt"]) == ("succeeded", 1)
    left = [Path(path) for violation in found for path in re.findall(r"^cgroup (\S+) is left", violation)]
    for path in left:
        path.rmdir()
    if weaker:
        assert left, found
    else:
        assert found == []


@pytest.mark.complete
@pytest.mark.parametrize("weaker", [("agents killed",), ("agents killed", "no excuse")])
def test_execution_is_retried_after_agent_was_killed_behind_its_last_frame(
    weaker: tuple[str, ...], installation: Callable[..., Installation]
) -> None:
    one, found = _run(installation("docker", lease_seconds=LEASE_SECONDS), lambda _: [], weaker)
    assert one.reported is not None
    if "no excuse" in weaker:
        assert any("it has failed" in violation for violation in found), found
    else:
        assert found == []
        assert one.reported["attempt"] == 2
