"""Parameters of plain types, converted without pydantic, which typer would otherwise import.

Importing pydantic takes a third of the time of `mayfly run`. Typer converts parameters of other types, or with bounds;
a test compares both conversions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from typer.core import TyperCommand


def finite(text: str) -> float:
    """A number of seconds, cores or the like. Raises ``ValueError`` for words, infinity and NaN."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not finite")
    return number


def flag(given: bool) -> bool:
    """The value of a flag, which has no argument."""
    return given


PLAIN: dict[Any, Callable[[Any], Any]] = {str: str, Path: Path, float: finite, bool: flag}


class PlainParameter:
    """Typer's runtime parameter: converts words of a command line to a value."""

    def __init__(self, convert: Callable[[Any], Any]) -> None:
        self._convert = convert

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value of a given parameter; ``()`` or ``None`` if it is missing."""
        repeated = param.multiple or param.nargs == -1
        if value is None:
            return () if repeated else None
        try:
            return [self._convert(word) for word in value] if repeated else self._convert(value)
        except ValueError as error:
            raise typer.BadParameter(f"{value!r} is not a number, such as 2.5", ctx=ctx, param=param) from error


class PlainCommand(TyperCommand):
    """A command with plain parameters."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        simplify(self.get_params(ctx))
        return super().parse_args(ctx, args)


def simplify(parameters: Iterable[Any]) -> None:
    """Replace the parameters of plain types by :class:`PlainParameter`."""
    for parameter in parameters:
        kind = parameter.type_descriptor.annotation
        kind = get_args(kind)[0] if get_origin(kind) is list else kind
        if kind in PLAIN and not _is_bounded(parameter.type_descriptor.parameter_info):
            parameter._runtime_param = PlainParameter(PLAIN[kind])


def _is_bounded(info: Any) -> bool:
    return bool(info.parser) or (info.min, info.max) != (None, None) or info.exists or info.resolve_path
