"""The bound on the steps of checks of untrusted values and schemas: for each check, or shared by several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MAX_STEPS = 200_000  # about a second


class TooManySteps(Exception):
    """Checking takes too many steps."""


class Steps:
    """The remaining steps."""

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def take(self, count: int) -> None:
        """Use steps. Raises :class:`TooManySteps` if too few remain."""
        self.left -= count
        if self.left < 0:
            raise TooManySteps()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Let all checks in the context share these steps, or the steps of an outer context."""
        token = _shared.set(_shared.get() or self)
        try:
            yield
        finally:
            _shared.reset(token)


_shared: ContextVar[Steps | None] = ContextVar("shared steps", default=None)


def steps_of_check() -> Steps:
    """The steps of one check: shared steps of the context, if any, else its own."""
    return _shared.get() or Steps()
