"""The agent that most tests here talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.agent import Agent
from worker.agent.frames import FromAgent


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent that is ready, and has not been asked for anything."""
    started = Agent(tmp_path / "sandbox")
    assert next(started.frames).kind is FromAgent.READY
    yield started
    started.close()
