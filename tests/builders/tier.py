"""Ways to run a program, and the isolation that each gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.harness import Stack, Way


@dataclass(frozen=True)
class Tier:
    """A way to make containers, and the isolation it gives."""

    stack: Stack
    way: Way

    @property
    def runtime(self) -> str:
        return self.way.runtime

    @property
    def isolation(self) -> str:
        return self.way.isolation

    def run(self, environment: str = "python", **body: Any) -> dict[str, Any]:
        """Submit to this tier and wait for the end."""
        return self.stack.run(environment, **{"isolation": self.isolation, **body})
