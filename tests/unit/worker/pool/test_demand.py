"""How many warm containers are wanted: the rule of ``docs/pool.md``, on a clock of the tests' own."""

from __future__ import annotations

import random

import pytest

from orchestrator.environments import DEFAULT_LIMITS
from orchestrator.settings import Settings
from worker.pool.demand import REMEMBERED_SECONDS, SHARED_SECONDS, Demand, Kind, Wish, sizes, wish
from worker.pool.pool import fits

PYTHON, NODE, HARDENED = Kind("python", "standard"), Kind("node", "standard"), Kind("python", "hardened")
MB = 2**20


def test_the_busiest_second_counts() -> None:
    demand = Demand()
    for now in (10.0, 11.0, 11.3, 11.9, 12.0, 12.1):
        demand.note(now, "t")
    assert demand.peak(13.0) == 3


def test_demand_without_leases_is_zero() -> None:
    assert Demand().peak(10.0) == 0


def test_peak_drops_five_minutes_after_the_busiest_second() -> None:
    demand = Demand()
    for now, takes in ((100.0, 9), (150.0, 4), (200.0, 6)):
        for _ in range(takes):
            demand.note(now, "t")
    assert demand.peak(100.0 + REMEMBERED_SECONDS) == 9
    assert demand.peak(101.0 + REMEMBERED_SECONDS) == 6
    assert demand.peak(201.0 + REMEMBERED_SECONDS) == 0


def test_peak_covers_all_remembered_seconds() -> None:
    chance, demand, taken = random.Random(7), Demand(), []
    now = 1000.0
    for _ in range(3000):
        now += chance.choice((0.01, 0.2, 0.9, 5.0, 60.0))
        demand.note(now, "t")
        taken.append(int(now))
        remembered = [second for second in taken if second >= now - REMEMBERED_SECONDS]
        assert demand.peak(now) == max(remembered.count(second) for second in set(remembered))


def test_tenant_above_its_share_leaves_the_last_container() -> None:
    demand = Demand()
    for now in (10.0, 10.1, 10.2, 10.3):
        assert not demand.yields(now, "often")  # no other tenant was ever seen
        demand.note(now, "often")
    demand.note(10.4, "seldom")
    assert demand.yields(10.5, "often")
    assert not demand.yields(10.5, "seldom") and not demand.yields(10.5, "new")
    demand.note(11.0, "often")
    assert demand.yields(10.29 + SHARED_SECONDS, "often")  # two of three, and there are two tenants
    assert not demand.yields(10.31 + SHARED_SECONDS, "often")


def test_other_tenants_are_remembered_for_five_minutes() -> None:
    demand = Demand()
    for now, tenant in ((10.0, "seldom"), (300.0, "often")):
        demand.note(now, tenant)
    assert demand.yields(300.1, "often")
    demand.note(9.9 + REMEMBERED_SECONDS, "often")
    assert demand.yields(9.95 + REMEMBERED_SECONDS, "often")
    assert not demand.yields(10.0 + REMEMBERED_SECONDS, "often")


@pytest.mark.parametrize(
    ("floor", "ceiling", "peak", "kept"),
    [(2, 16, 0, 2), (2, 16, 5, 5), (2, 16, 80, 16), (0, 16, 0, 0), (0, 16, 1, 1), (3, 0, 80, 3), (3, 2, 80, 3)],
)
def test_between_floor_and_ceiling(floor: int, ceiling: int, peak: int, kept: int) -> None:
    assert sizes({PYTHON: wish(floor, ceiling, peak, 15 * MB)}, 1024 * MB) == {PYTHON: kept}


@pytest.mark.parametrize(
    ("budget", "python", "node", "hardened"),
    [
        (1000 * MB, 8, 4, 2),  # all fits
        (380 * MB, 8, 4, 2),  # just
        (300 * MB, 6, 3, 1),  # 80 MB of floors, 220 MB for 300 MB of demand
        (80 * MB, 2, 1, 0),  # the floors, just
        (79 * MB, 1, 0, 0),  # not even the floors fit: no kind gets more
        (0, 0, 0, 0),
    ],
)
def test_the_budget_is_for_floors_first_then_shared_in_proportion(
    budget: int, python: int, node: int, hardened: int
) -> None:
    wishes = {PYTHON: Wish(2, 6, 20 * MB), NODE: Wish(1, 3, 40 * MB), HARDENED: Wish(0, 2, 30 * MB)}
    kept = sizes(wishes, budget)
    assert kept == {PYTHON: python, NODE: node, HARDENED: hardened}
    assert sum(number * wishes[kind].container_bytes for kind, number in kept.items()) <= budget


def test_which_limits_a_waiting_container_can_be_given() -> None:
    changes = {
        "wall_seconds": 9, "cpu_seconds": 9, "output_bytes": 9, "memory_bytes": 9, "cpu_cores": 2, "processes": 9,
        "disk_bytes": 9,
    }  # fmt: skip
    able = {
        isolation: {
            name
            for name, value in changes.items()
            if fits(isolation, DEFAULT_LIMITS, DEFAULT_LIMITS.model_copy(update={name: value}))
        }
        for isolation in ("standard", "hardened")
    }
    assert able["standard"] == changes.keys() - {"disk_bytes"}
    assert able["hardened"] == {"wall_seconds", "cpu_seconds", "output_bytes"}


def test_floors_come_from_the_settings() -> None:
    settings = Settings(pool_size=3, pool_sizes={"node": 5, "bash/hardened": 2})
    kinds = [(name, isolation) for name in ("python", "node", "bash") for isolation in ("standard", "hardened")]
    assert [settings.pool_size_of(*kind) for kind in kinds] == [3, 0, 5, 0, 3, 2]
