"""The failures that open the breaker of launches, and the trials that close it."""

from __future__ import annotations

from orchestrator.errors import RuntimeUnavailable
from orchestrator.models import Isolation
from worker.pool.breaker import FAILURES, LEAST_SECONDS, MOST_SECONDS, Breaker


class Host:
    """Launches, which work or do not."""

    def __init__(self) -> None:
        self.now = 0.0
        self.broken = False
        self.trials: list[Isolation] = []
        self.breaker = Breaker(self._trial, lambda: self.now)

    def _trial(self, isolation: Isolation) -> None:
        self.trials.append(isolation)
        if self.broken:
            raise RuntimeUnavailable("It is broken.")

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.breaker.failed("standard")


def test_few_failures_do_not_open_the_breaker() -> None:
    host = Host()
    host.broken = True
    for _ in range(10):
        host.fail(FAILURES - 1)
        host.breaker.succeeded("standard")
    assert (host.trials, host.breaker.trouble()) == ([], [])


def test_breaker_stays_closed_if_the_trial_succeeds() -> None:
    host = Host()
    host.fail(FAILURES)
    assert host.trials == ["standard"]
    assert not host.breaker.blocks("standard")
    host.fail(FAILURES - 1)
    assert host.trials == ["standard"]


def test_failed_trial_blocks_its_isolation() -> None:
    host = Host()
    host.broken = True
    host.fail(FAILURES)
    assert (host.breaker.blocks("standard"), host.breaker.blocks("hardened")) == (True, False)
    assert host.breaker.trouble() == ["launches of isolation 'standard' fail: It is broken."]
    host.fail(FAILURES)  # what was under way
    assert host.trials == ["standard"]


def test_pauses_between_trials_grow_until_a_trial_succeeds() -> None:
    host = Host()
    host.broken = True
    host.fail(FAILURES)
    pauses = []
    for _ in range(8):
        begun, trials = host.now, len(host.trials)
        while len(host.trials) == trials:
            host.now += LEAST_SECONDS / 2
            host.breaker.look()
        pauses.append(host.now - begun)
    assert pauses == [1, 2, 4, 8, 16, 32, MOST_SECONDS, MOST_SECONDS]
    host.broken = False
    host.breaker.look()
    assert host.breaker.blocks("standard")
    host.breaker.hasten()
    host.breaker.look()
    assert (host.breaker.blocks("standard"), host.breaker.trouble()) == (False, [])
