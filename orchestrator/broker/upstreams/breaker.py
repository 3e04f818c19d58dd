"""A circuit breaker of one tool server: after consecutive failures its calls fail at once, for growing pauses. Pure."""

from __future__ import annotations

FAILURES = 5
LEAST_SECONDS, MOST_SECONDS = 1.0, 60.0
# Failures of the server, not of the call.
COUNTED = frozenset({"tool_timed_out", "tool_unavailable", "tool_outcome_unknown"})


class Breaker:
    """Closed until :data:`FAILURES` consecutive calls have failed; then one call is permitted after each pause."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause = 0.0
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open."""
        return self._pause > 0

    def allows(self, now: float) -> bool:
        """Whether a call is permitted now (monotonic seconds); an open breaker permits a single call."""
        if not self.is_open:
            return True
        if now < self._until:
            return False
        self._until = now + self._pause
        return True

    def seconds_left(self, now: float) -> float:
        """Seconds until the next permitted call."""
        return max(0.0, self._until - now) if self.is_open else 0.0

    def record(self, code: str | None, now: float) -> None:
        """Count the outcome of a call: the failure's code, or None."""
        if code not in COUNTED:
            self._failures, self._pause = 0, 0.0
            return
        self._failures += 1
        if self._failures >= FAILURES:
            self._pause = min(MOST_SECONDS, 2 * self._pause) if self._pause else LEAST_SECONDS
            self._until = now + self._pause
