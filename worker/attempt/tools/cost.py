"""The CPU time that a worker spends on the calls of one attempt: client, program and tool servers choose how much."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.models.tools import ToolFailure

MOST_SECONDS = 2.0  # for one attempt; the last check or search may take a second more
COSTLY = ToolFailure(
    code="tool_denied",
    message=f"Checks and searches of this execution have used all of their {MOST_SECONDS:g} s of the host's CPU time. "
    "Define simpler schemas, pass smaller arguments, or search less.",
)


class Cost:
    """The CPU time of one attempt, spent by one thread."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @property
    def is_used_up(self) -> bool:
        """Whether the permitted CPU time is used up."""
        return self.seconds >= MOST_SECONDS

    @contextmanager
    def charged(self) -> Iterator[None]:
        """Charge the CPU time of the ``with`` block."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.seconds += time.thread_time() - began
