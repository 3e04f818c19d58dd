"""An agent of smolagents whose steps run in Mayfly, with a model that has learned its lines; prints what came of it.

Run in the environment of the adapters; ``sys.argv[1]`` is a list of steps in JSON, each a program.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from mayfly_smolagents import MayflyExecutor
from smolagents import CodeAgent, tool
from smolagents.models import ChatMessage, MessageRole, Model
from smolagents.monitoring import AgentLogger, LogLevel

asked: list[Any] = []


@tool
def lookup(key: str, limit: int) -> list:
    """Look up rows.

    Args:
        key: The key.
        limit: Most rows.
    """
    asked.append([key, limit])
    if key == "missing":
        raise ValueError("no such key")
    return [(key, number) for number in range(limit)]


class Lines(Model):
    """A model that answers with the next of its lines."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(model_id="lines")
        self.lines = lines

    def generate(self, messages: list[Any], **options: Any) -> ChatMessage:
        """The next line as a step's code."""
        return ChatMessage(role=MessageRole.ASSISTANT, content=f"<code>\n{self.lines.pop(0)}\n</code>")


def main() -> None:
    steps = json.loads(sys.argv[1])
    logger = AgentLogger(level=LogLevel.OFF)
    executor = MayflyExecutor([], logger, limits={"wall_seconds": 20})
    agent = CodeAgent(tools=[lookup], model=Lines(steps), executor=executor, verbosity_level=LogLevel.OFF)
    answer = agent.run("Go.", max_steps=len(steps), additional_args={"given": (1, 2)})
    observed = [step.observations or str(step.error) for step in agent.memory.steps if hasattr(step, "observations")]
    agent.cleanup()
    print(json.dumps({"answer": answer, "asked": asked, "observed": observed}))


main()
