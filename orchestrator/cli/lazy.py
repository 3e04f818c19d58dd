"""Commands by name, each imported on first use. Their log goes to standard error, apart from their results."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.cli.parameters import PlainCommand

if TYPE_CHECKING:
    from typer.core import TyperCommand, TyperGroup


class LazyCommands(MutableMapping[str, Any]):
    """``places``: the location ``module:name`` of each command's function or group, by command name."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        if name not in self._loaded:
            module, _, attribute = self._places[name].partition(":")
            self._loaded[name] = _command(name, getattr(import_module(module), attribute))
            if structlog := sys.modules.get("structlog"):  # only commands on this host log
                structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
        found: TyperCommand | TyperGroup = self._loaded[name]
        return found

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command
        self._places.setdefault(name, "")

    def __delitem__(self, name: str) -> None:
        del self._places[name]
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places


def _command(name: str, found: Any) -> Any:
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name, cls=PlainCommand)(found)
    return typer.main.get_command(alone)
