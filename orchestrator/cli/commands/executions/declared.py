"""What the command reads of environment files: names, and how their programs' files end.

The API checks everything in them (:mod:`orchestrator.environments`); that takes longer than a guess may.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import typer


class Declared(NamedTuple):
    """One environment: its name, its name and aliases, the suffix of its programs."""

    name: str
    names: tuple[str, ...]
    suffix: str


def declared_environments(directories: Iterable[Path]) -> list[Declared]:
    """Every environment that the directories declare. Raises ``typer.BadParameter`` for a file that declares none."""
    return [_declared(path) for directory in directories for path in sorted(directory.glob("*.toml"))]


def _declared(path: Path) -> Declared:
    import tomllib  # not above: a program given as -c needs no guess

    try:
        declared = tomllib.loads(path.read_text(encoding="utf-8"))
        names = (declared["name"], *declared.get("aliases", ()))
        return Declared(declared["name"], names, Path(declared["file_name"]).suffix)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise typer.BadParameter(f"{path} declares no environment ({error!r}); correct it, or give --env") from error
