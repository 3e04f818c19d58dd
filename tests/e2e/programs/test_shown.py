"""The view of 500 tokens of each program of the table, for a model, as the programs run in containers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders.sandboxes.shown import PROGRAMS, faults, material_of, run_all
from tests.harness import Stack


@pytest.fixture(scope="module")
def materials(stack: Stack) -> dict[str, dict[str, Any]]:
    """The materials of all programs, run some at a time."""
    return dict(run_all(stack))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program["name"])
def test_model_gets_the_needed_facts_within_500_tokens(
    program: dict[str, Any], materials: dict[str, dict[str, Any]]
) -> None:
    assert faults(program, material_of(materials[program["name"]])) == []
