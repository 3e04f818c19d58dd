"""A little of what ``make chaos`` does for longer."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.chaos.__main__ import mix, show
from tests.chaos.installation import Installation

SECONDS = 20.0


def test_nothing_is_lost_in_a_mixture_of_faults(installation: Callable[..., Installation]) -> None:
    seed = random.randrange(10**6)
    report = mix(installation(), SECONDS, seed)
    show(f"seed {seed}", report)
    assert report.violations == [], f"seed {seed}"
    assert report.executions > 0
    assert report.faults.total() > 3
