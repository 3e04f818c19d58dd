"""Ways to run a program, and the isolation that each gives."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.harness import Stack, Way

AT_ONCE = 4  # programs of a batch


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

    def run_all(self, bodies: Mapping[str, dict[str, Any]], **limits: Any) -> dict[str, dict[str, Any]]:
        """Submit some programs at a time, with these limits unless they bring their own; the ends, by their names."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            ends = {
                name: threads.submit(self.run, **{**body, "limits": {**limits, **body.get("limits", {})}})
                for name, body in bodies.items()
            }
            return {name: end.result() for name, end in ends.items()}
