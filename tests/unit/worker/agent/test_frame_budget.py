"""The bounds on frames of each kind."""

from __future__ import annotations

import os

import pytest

from orchestrator.errors import FrameError
from worker.agent.frame_budget import (
    ACKNOWLEDGEMENTS,
    FRAME_CPU_SECONDS,
    FREE_FRAMES,
    MOST,
    MOST_BYTES,
    NEVER_EMPTY,
    SMALL_BYTES,
    FrameBudget,
)
from worker.agent.frames import Frame, FromAgent


def test_all_frames_of_bytes_are_priced() -> None:
    """The rest has bounds of number or size, or comes once and in its place."""
    data = {kind for kind in FromAgent if kind.name.endswith(("DATA", "STDOUT", "STDERR"))}
    assert data == NEVER_EMPTY
    assert len(data) == 7
    assert {kind for kind in FromAgent if kind.name.endswith("TAKEN")} == ACKNOWLEDGEMENTS


@pytest.mark.parametrize("kind", sorted(NEVER_EMPTY))
def test_output_and_data_are_never_empty(kind: FromAgent) -> None:
    FrameBudget().charge(Frame(kind, b"x"))
    with pytest.raises(FrameError, match="without a payload"):
        FrameBudget().charge(Frame(kind, b""))


@pytest.mark.parametrize("kind", MOST)
def test_some_kinds_come_a_few_times(kind: FromAgent) -> None:
    budget = FrameBudget()
    for _ in range(MOST[kind]):
        budget.charge(Frame(kind, b"{}"))
    with pytest.raises(FrameError, match="more than"):
        budget.charge(Frame(kind, b"{}"))


@pytest.mark.parametrize("kind", MOST_BYTES)
def test_some_kinds_are_small(kind: FromAgent) -> None:
    FrameBudget().charge(Frame(kind, b" " * MOST_BYTES[kind]))
    with pytest.raises(FrameError, match="bound"):
        FrameBudget().charge(Frame(kind, b" " * (MOST_BYTES[kind] + 1)))


def sent(kind: FromAgent, count: int, size: int = 1) -> FrameBudget:
    budget = FrameBudget()
    for _ in range(count):
        budget.charge(Frame(kind, b"x" * size))
    return budget


@pytest.mark.parametrize("kind", sorted(ACKNOWLEDGEMENTS))
def test_acknowledgements_cost_the_sandbox_cpu_time(kind: FromAgent) -> None:
    """An agent could acknowledge tens of megabytes byte by byte."""
    sent(kind, FREE_FRAMES).settle(0.0, 1.0)
    with pytest.raises(FrameError, match="small frames"):
        sent(kind, FREE_FRAMES + 1).settle(0.0, 1.0)


@pytest.mark.parametrize("kind", sorted(NEVER_EMPTY))
def test_small_pieces_cost_the_sandbox_cpu_time(kind: FromAgent) -> None:
    paid = 10_000 * FRAME_CPU_SECONDS
    sent(kind, FREE_FRAMES).settle(0.0, 1.0)
    sent(kind, FREE_FRAMES + 10_000).settle(paid, 1.0)
    with pytest.raises(FrameError, match="small frames"):
        sent(kind, FREE_FRAMES + 10_001).settle(paid, 1.0)
    sent(kind, FREE_FRAMES + 10_001, SMALL_BYTES).settle(0.0, 1.0)  # these are paid for by their bytes
    # Where nothing is counted: as if all processors had worked for it.
    sent(kind, FREE_FRAMES + 10_001).settle(None, (paid + 1) / (os.cpu_count() or 1))
