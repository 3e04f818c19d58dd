"""Where trajectories come from: a trajectory, its simulator, and the definitions of its tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from tests.bench.tokens.trajectories.model import Call, Trajectory
from tests.bench.tokens.trajectories.replaying import ToolFailed


class Simulator(Protocol):
    """Tools with a state, made anew for each run."""

    def answer(self, tool: str, arguments: dict[str, Any]) -> Any:
        """The result of a call. Raises :class:`ToolFailed`."""

    def state(self) -> Any:
        """The state that is compared at the end of a run."""


class Source(NamedTuple):
    """A trajectory; ``simulator`` makes a fresh simulator, and is None for recorded runs."""

    trajectory: Trajectory
    simulator: Callable[[], Simulator] | None
    tools: tuple[dict[str, Any], ...] = ()


def called(simulator: Simulator, tool: str, arguments: dict[str, Any]) -> Call:
    """A call with the result that a simulator gives."""
    try:
        return Call(tool, arguments, simulator.answer(tool, arguments))
    except ToolFailed as failure:
        return Call(tool, arguments, f"Error: {failure}", failed=True)
