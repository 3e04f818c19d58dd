"""Each guarantee of the sandbox is kept, and visibly lost when only its field is weakened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Way
from tests.hostile.controls import table
from tests.hostile.controls.table import CONTROLS, LIMITS, NO_CONTROL, OUTSIDE, Control, both
from tests.hostile.sandbox import Bench, Sandbox
from worker.drivers.docker.config import container_config
from worker.sandbox import profile

OBSERVE = (Path(__file__).parent / "observe.py").read_text()


def observe(sandbox: Sandbox, controls: list[Control]) -> dict[str, Any]:
    """The finding of each probe in a sandbox."""
    ran = sandbox.run(f"PROBES = {[one.probe for one in controls]!r}\n{OBSERVE}")
    assert ran.exit["exit_code"] == 0, ran
    return dict(zip((one.name for one in controls), json.loads(ran.stdout), strict=True))


def in_true(bench: Bench, controls: list[Control]) -> dict[str, Any]:
    """The observations in the true sandbox, which the worker accepts."""
    with bench.sandbox(limits=LIMITS) as sandbox:
        assert sandbox.refusals == []
        return observe(sandbox, controls)


def in_weakened(bench: Bench, controls: list[Control]) -> dict[str, Any]:
    """The findings in a sandbox with weakened fields, which is refused by the names of these fields."""
    with bench.sandbox(limits=LIMITS, edit=both(*(one.weaken for one in controls))) as sandbox:
        assert {one.field for one in controls if not any(one.field in text for text in sandbox.refusals)} == set()
        return observe(sandbox, controls)


def holding(controls: list[Control], found: dict[str, Any]) -> dict[str, Any]:
    """Those of them that find their guarantee, with what they found."""
    return {one.name: found[one.name] for one in controls if one.holds(found[one.name])}


@pytest.fixture(scope="module")
def true(bench: Bench) -> dict[str, Any]:
    return in_true(bench, CONTROLS)


def together() -> dict[str, list[Control]]:
    """The controls that share a sandbox."""
    found: dict[str, list[Control]] = {}
    for one in CONTROLS:
        found.setdefault(one.together or one.name, []).append(one)
    return found


@pytest.mark.parametrize("controls", together().values(), ids=together().keys())
def test_weakened_field_is_observed(bench: Bench, true: dict[str, Any], controls: list[Control]) -> None:
    assert holding(controls, true).keys() == {one.name for one in controls}, true
    assert holding(controls, in_weakened(bench, controls)) == {}, "weaker, and the probe does not see it"


def test_crun_covers_the_same_paths(images: Path, tmp_path: Path, need_runtime: Callable[..., None]) -> None:
    """The runtime chooses the kind of mount that covers a path."""
    need_runtime("crun")
    bench = Bench(tmp_path, images, Way("docker-crun"))
    controls = [*together()["masked"], *together()["read-only"]]
    assert len(holding(controls, in_true(bench, controls))) == len(controls)
    assert holding(controls, in_weakened(bench, controls)) == {}
    bench.close()


@pytest.mark.parametrize("name", ["oci-crun", "oci-runc"])
def test_without_an_engine_each_guarantee_holds(
    images: Path, tmp_path: Path, need_runtime: Callable[..., None], name: str
) -> None:
    """With the same probes whose sensitivity the controls have shown."""
    way = Way(name)
    need_runtime(way.runtime, way.driver)
    bench = Bench(tmp_path, images, way)
    found = in_true(bench, CONTROLS)
    assert {one.name: found[one.name] for one in CONTROLS if not one.holds(found[one.name])} == {}
    bench.close()


def test_no_field_and_no_path_is_without_a_control(bench: Bench) -> None:
    with bench.sandbox() as sandbox:
        asked = container_config(sandbox.lease.sandbox.profile)["HostConfig"].keys()
    assert asked == {*OUTSIDE, *NO_CONTROL, *(one.field for one in CONTROLS if one.field in asked)}
    assert profile.MASKED_PATHS == table.MASKED_PATHS
    assert profile.READONLY_PATHS == table.READONLY_PATHS
    assert len(together()["masked"]) > 5
