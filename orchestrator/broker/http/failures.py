"""The exception behind a failed call of a tool of server ``http``."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.models.tools import ToolFailure

LONGEST_DETAIL = 300  # characters of another program's message, such as a server's or OpenSSL's


class CallFailed(Exception):
    """A call has no result. ``failure`` is shown to the program."""

    def __init__(self, code: str, message: str, valid_parameters: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.failure = ToolFailure(code=code, message=message, valid_parameters=tuple(valid_parameters))


def detail(error: BaseException) -> str:
    """The first line of an error's own text, bounded; its cause's text where the error has none."""
    seen: BaseException | None = error
    while seen is not None:
        if text := str(seen).strip():
            return text.splitlines()[0][:LONGEST_DETAIL]
        seen = seen.__cause__ or seen.__context__
    return type(error).__name__
