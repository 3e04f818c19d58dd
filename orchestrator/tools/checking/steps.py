"""The steps that checks of strangers' values and schemas may take: each by itself, or several together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MAX_STEPS = 200_000  # about a second


class TooManySteps(Exception):
    """Checking takes too many steps."""


class Steps:
    """The steps that are left."""

    def __init__(self) -> None:
        self.left = MAX_STEPS

    def take(self, count: int) -> None:
        """Use steps up. Raises :class:`TooManySteps`."""
        self.left -= count
        if self.left < 0:
            raise TooManySteps()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Have all checks within take from these steps together, or from those that are shared around them."""
        token = _shared.set(_shared.get() or self)
        try:
            yield
        finally:
            _shared.reset(token)


_shared: ContextVar[Steps | None] = ContextVar("shared steps", default=None)


def steps_of_check() -> Steps:
    """The steps of one check: its own, unless it shares others."""
    return _shared.get() or Steps()
