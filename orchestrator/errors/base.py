"""The root of all errors."""

from __future__ import annotations


class MayflyError(Exception):
    """Something went wrong inside Mayfly."""

    code = "internal"
    status = 500

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())

    @property
    def message(self) -> str:
        return str(self.args[0])
