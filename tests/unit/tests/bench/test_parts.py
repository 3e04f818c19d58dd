"""The table of what each part of a container costs."""

from __future__ import annotations

from tests.bench.parts.__main__ import measured, table
from tests.bench.parts.containers import Cost
from tests.bench.parts.variants import ADDED, PARTS, VARIANTS, WHOLE, Variant


def test_each_variant_runs_once_in_each_round() -> None:
    made: list[Variant] = []

    def run(variant: Variant) -> Cost:
        made.append(variant)
        return Cost(1.0, 1.0)

    costs = measured(run, VARIANTS, 3)
    assert {variant: len(found) for variant, found in costs.items()} == dict.fromkeys(VARIANTS, 3)
    assert made[0] is WHOLE  # and is not counted
    assert len({tuple(made[1 + round * len(VARIANTS) :][: len(VARIANTS)]) for round in range(3)}) > 1


def test_part_costs_the_difference_of_the_same_round() -> None:
    def costs(of: Variant) -> list[Cost]:
        own = {PARTS[0]: -0.002, ADDED[0]: 0.003}.get(of, 0.0)
        return [Cost(whole + own, 1.0 + own) for whole in (0.030, 0.040, 0.090)]  # the machine drifts

    lines = table({variant: costs(variant) for variant in VARIANTS}).splitlines()
    assert lines[2] == "| the whole container | 40.0 | 30.0 to 90.0 | 1000.0 |"
    assert lines[3] == f"| {PARTS[0].part} | 2.0 | 2.0 to 2.0 | 2.0 |"
    assert f"| {ADDED[0].part} | 3.0 | 3.0 to 3.0 | 3.0 |" in lines
    assert len(lines) == 2 + len(VARIANTS)
