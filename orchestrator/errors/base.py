"""The root of all errors."""

from __future__ import annotations


class MayflyError(Exception):
    """An internal error of Mayfly occurred; it has been logged."""

    code = "internal"
    status = 500
    bound: float | None = None

    def __init__(self, message: str | None = None, *, bound: float | None = None) -> None:
        """``bound``: the number that the request exceeds or falls short of; the default message then ends with it."""
        text = message or (self.__doc__ or "").strip()
        if bound is not None:
            self.bound = bound
            text = message or f"{text} The bound is {bound:.12g}."
        super().__init__(text)

    @property
    def message(self) -> str:
        return str(self.args[0])
