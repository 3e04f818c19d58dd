"""Each guarantee of the sandbox holds, and is seen to be gone when the one field that gives it is weakened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import RuntimeUnavailable
from tests.hostile.controls.table import CONTROLS, LIMITS, NO_CONTROL, NOT_BY_EVERY_ENGINE, OUTSIDE, Control, both
from tests.hostile.sandbox import Bench, Sandbox
from worker.drivers.docker_config import container_config

OBSERVE = (Path(__file__).parent / "observe.py").read_text()


def observe(sandbox: Sandbox, controls: list[Control]) -> list[Any]:
    ran = sandbox.run(f"PROBES = {[one.probe for one in controls]!r}\n{OBSERVE}")
    assert ran.exit["exit_code"] == 0, ran
    found: list[Any] = json.loads(ran.stdout)
    return found


@pytest.fixture(scope="module")
def true(bench: Bench) -> dict[str, Any]:
    """What every probe finds in the true sandbox, which nobody refuses."""
    with bench.sandbox(limits=LIMITS) as sandbox:
        assert sandbox.refusals == []
        asked = container_config(sandbox.lease.sandbox.profile)["HostConfig"].keys()
        assert asked == {*OUTSIDE, *NO_CONTROL, *(one.field for one in CONTROLS if one.field in asked)}
        return dict(zip((one.name for one in CONTROLS), observe(sandbox, CONTROLS), strict=True))


def together() -> dict[str, list[Control]]:
    """Which controls share a sandbox."""
    found: dict[str, list[Control]] = {}
    for one in CONTROLS:
        found.setdefault(one.together or one.name, []).append(one)
    return found


@pytest.mark.parametrize("controls", together().values(), ids=together().keys())
def test_a_weakened_field_shows(bench: Bench, true: dict[str, Any], controls: list[Control]) -> None:
    assert {one.name: true[one.name] for one in controls if not one.holds(true[one.name])} == {}
    try:
        with bench.sandbox(limits=LIMITS, edit=both(*(one.weaken for one in controls))) as sandbox:
            found = dict(zip(controls, observe(sandbox, controls), strict=True))
    except RuntimeUnavailable:
        if controls[0].name in NOT_BY_EVERY_ENGINE:
            pytest.skip("this engine itself cannot make that field weaker")
        raise
    unseen = {one.name: value for one, value in found.items() if one.holds(value)}
    assert unseen == {}, "weaker, and the probe does not see it"
    assert {one.field for one in controls if not any(one.field in text for text in sandbox.refusals)} == set()
