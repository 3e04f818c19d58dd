"""A short run of ``make chaos``."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice

import pytest

from tests.chaos.__main__ import show
from tests.chaos.installations.installation import Installation
from tests.chaos.mixture import BY_DRIVER, LEAST_FAULTS, Mixture, fates, mix, plan

pytestmark = pytest.mark.timeout(900)  # on a slow machine the waits alone may sum up to more than 300 s
SECONDS = {"none": 30.0, "oci": 30.0, "docker": 60.0}


# `oci` has all faults of `none`, and those of containers.
@pytest.mark.parametrize(
    "driver", ["oci", *(pytest.param(one, marks=pytest.mark.complete) for one in ("none", "docker"))]
)
def test_mixture_of_faults_loses_no_execution(driver: str, installation: Callable[..., Installation]) -> None:
    seed = random.randrange(10**6)
    report = mix(installation(driver), SECONDS[driver], seed)
    show(f"seed {seed}, driver {driver}", report)
    assert report.violations == [], f"seed {seed}"
    assert report.executions > 0
    assert report.faults.total() >= LEAST_FAULTS


@pytest.mark.parametrize("driver", BY_DRIVER)
def test_a_seed_is_a_plan(driver: str) -> None:
    def planned(seed: int) -> list[object]:
        return [*islice(plan(seed, BY_DRIVER[driver]), 300), *islice(fates(seed), 100)]

    assert planned(1) == planned(1)
    assert planned(1) != planned(2)
    names = {step.fault for step in islice(plan(1, BY_DRIVER[driver]), 1000)}
    assert names == set(BY_DRIVER[driver])
    assert all(callable(getattr(Mixture, name.replace(" ", "_").replace("-", "_"))) for name in names)
