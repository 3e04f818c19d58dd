"""A worker is killed at every step of an execution's life, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.installations.installation import Installation
from tests.chaos.installations.workers import STEPS
from tests.chaos.kills import kill_at_every_step

pytestmark = pytest.mark.timeout(900)  # on a slow machine the waits alone may sum up to more than 300 s
KILLS = 3  # at each step; `make chaos` has more


def test_worker_killed_at_any_step_loses_nothing(installation: Callable[..., Installation]) -> None:
    report = kill_at_every_step(installation(), KILLS, seed=1)
    assert report.violations == []
    assert report.faults == dict.fromkeys(STEPS, KILLS)
